using System.Buffers.Binary;

namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>Bytes to be written and flushed before the next step.</summary>
/// <param name="Offset">A multiple of 512.</param>
/// <param name="Bytes">Whole sectors.</param>
internal readonly record struct HeaderWriteStep(int Offset, ReadOnlyMemory<byte> Bytes);

/// <summary>
/// How one header becomes another one in place when only sectors are written whole. Each step is flushed before the next; whatever part of a
/// step arrives, the header reads as the old or the new one, except for the feature name table, which only serves messages.
/// <para>What no reader looks at may be written in any order: what lies behind the end marker and is not the backing file name. So, where the new
/// bytes beyond the first sector do not touch live old ones, they go first, and the first sector switches. Otherwise the header is switched
/// twice: to a copy that keeps away from both, and then to its final place.</para>
/// <code>
/// old    | fixed, extensions, ...  | ... end, name |
/// bridge | fixed, extensions, gap ->               .......  | ... end, name |
/// new    | fixed, extensions, ...  | ....... end, name      |
///        0                        512
/// </code>
/// </summary>
internal static class HeaderRewritePlan
{
    internal const int SectorSize = 512;

    // A table of names has entries of 48 bytes: a gap of another length cannot be taken for one.
    private const int NameTableEntrySize = 48;

    /// <summary>Finds the steps. Nothing is written yet.</summary>
    /// <param name="cluster">The first cluster as it is, which has been parsed without an error.</param>
    /// <param name="header">What it is to say. Everything that cannot be stored is refused here.</param>
    /// <exception cref="ImageFormatException">The header does not fit, or not beside the old one.</exception>
    internal static IReadOnlyList<HeaderWriteStep> Make(byte[] cluster, Qcow2Header header)
    {
        byte[] final = Qcow2HeaderWriter.Write(header);
        if (TryStepsTo(cluster, Overlaid(cluster, final, at: 0, cleared: SectorSize)) is { } direct)
        {
            return direct;
        }

        byte[] bridge = Bridge(cluster, header);
        return [.. TryStepsTo(cluster, bridge)!, .. TryStepsTo(bridge, Overlaid(bridge, final, at: 0, cleared: SectorSize))!];
    }

    private static byte[] Bridge(byte[] cluster, Qcow2Header header)
    {
        int end = Math.Max(LiveRanges(cluster).Max(range => range.End), Qcow2HeaderWriter.Write(header).Length);
        int farStart = Math.Max((end + 7) & ~7, SectorSize);
        (byte[] first, byte[] far) = Qcow2HeaderWriter.WriteAroundGap(header, farStart);
        if (GapLength(first) is { } gap && gap % NameTableEntrySize == 0)
        {
            farStart += 8;
            (first, far) = Qcow2HeaderWriter.WriteAroundGap(header, farStart);
        }

        if (farStart + far.Length > cluster.Length)
        {
            throw new ImageFormatException(
                $"The header cannot be changed safely: {farStart + far.Length} bytes are needed meanwhile, and the first cluster has {cluster.Length}",
                "Use shorter names, or convert the image to larger clusters");
        }

        return Overlaid(Overlaid(cluster, first, at: 0, cleared: SectorSize), far, farStart, cleared: far.Length);
    }

    // Length of the extension that leads over the gap; null if the chain ends in the first sector.
    private static int? GapLength(ReadOnlySpan<byte> first)
    {
        foreach ((uint type, int _, int length) in Chain(first.ToArray()))
        {
            if (type == HeaderExtensionType.FeatureNameTable)
            {
                return length;
            }
        }

        return null;
    }

    // Null if bytes beyond the first sector would change that a reader of `from` looks at.
    private static List<HeaderWriteStep>? TryStepsTo(byte[] from, byte[] to)
    {
        foreach ((int start, int end) in LiveRanges(from))
        {
            int first = Math.Max(start, SectorSize);
            if (end > first && !from.AsSpan(first, end - first).SequenceEqual(to.AsSpan(first, end - first)))
            {
                return null;
            }
        }

        var steps = new List<HeaderWriteStep>(2);
        int same = from.AsSpan(SectorSize).CommonPrefixLength(to.AsSpan(SectorSize)) + SectorSize;
        if (same < to.Length)
        {
            int begin = same / SectorSize * SectorSize;
            int last = to.Length - SectorSize;
            while (from.AsSpan(last, SectorSize).SequenceEqual(to.AsSpan(last, SectorSize)))
            {
                last -= SectorSize;
            }

            steps.Add(new HeaderWriteStep(begin, to.AsMemory(begin, last + SectorSize - begin)));
        }

        if (!from.AsSpan(0, SectorSize).SequenceEqual(to.AsSpan(0, SectorSize)))
        {
            steps.Add(new HeaderWriteStep(0, to.AsMemory(0, SectorSize)));
        }

        return steps;
    }

    private static byte[] Overlaid(byte[] cluster, ReadOnlySpan<byte> bytes, int at, int cleared)
    {
        byte[] result = (byte[])cluster.Clone();
        result.AsSpan(at, cleared).Clear();
        bytes.CopyTo(result.AsSpan(at));
        return result;
    }

    // The bytes that readers rely on: fixed fields and extensions to the end marker, without the names of features; the backing file name.
    private static List<(int Start, int End)> LiveRanges(byte[] cluster)
    {
        int end = HeaderLength(cluster);
        var live = new List<(int, int)> { (0, end) };
        foreach ((uint type, int start, int length) in Chain(cluster))
        {
            live.Add((start - HeaderExtension.PrefixSize, type == HeaderExtensionType.FeatureNameTable ? start : start + length));
            end = start + ((length + 7) & ~7);
        }

        end = Math.Min(end, cluster.Length);
        live.Add((end, Math.Min(end + HeaderExtension.PrefixSize, cluster.Length)));
        int nameStart = (int)BinaryPrimitives.ReadUInt64BigEndian(cluster.AsSpan(Qcow2HeaderFields.BackingFileOffset));
        if (nameStart != 0)
        {
            live.Add((nameStart, nameStart + (int)BinaryPrimitives.ReadUInt32BigEndian(cluster.AsSpan(Qcow2HeaderFields.BackingFileSize))));
        }

        return live;
    }

    // The extensions before the end marker; the position of each one's content and its length.
    private static IEnumerable<(uint Type, int Start, int Length)> Chain(byte[] cluster)
    {
        int nameStart = (int)BinaryPrimitives.ReadUInt64BigEndian(cluster.AsSpan(Qcow2HeaderFields.BackingFileOffset));
        int limit = nameStart == 0 ? cluster.Length : Math.Min(nameStart, cluster.Length);
        for (int position = HeaderLength(cluster); limit - position >= HeaderExtension.PrefixSize;)
        {
            uint type = BinaryPrimitives.ReadUInt32BigEndian(cluster.AsSpan(position));
            int length = (int)BinaryPrimitives.ReadUInt32BigEndian(cluster.AsSpan(position + sizeof(uint)));
            if (type == HeaderExtensionType.End)
            {
                yield break;
            }

            position += HeaderExtension.PrefixSize;
            yield return (type, position, length);
            position += (length + 7) & ~7;
        }
    }

    private static int HeaderLength(ReadOnlySpan<byte> cluster) =>
        BinaryPrimitives.ReadUInt32BigEndian(cluster[Qcow2HeaderFields.Version..]) == 2
            ? Qcow2HeaderFields.Version2Length
            : (int)BinaryPrimitives.ReadUInt32BigEndian(cluster[Qcow2HeaderFields.HeaderLength..]);
}
