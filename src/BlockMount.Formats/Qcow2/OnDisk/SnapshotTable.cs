using System.Buffers.Binary;
using System.Text;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>One internal snapshot as the image lists it. Text is foreign: it may hold anything but is valid UTF-16.</summary>
public sealed record SnapshotEntry
{
    /// <summary>Unique within the image, usually a decimal number.</summary>
    public required string Id { get; init; }

    public required string Name { get; init; }

    public required long L1TableOffset { get; init; }

    /// <summary>Entries of the snapshot's L1 table.</summary>
    public required int L1Size { get; init; }

    /// <summary>Size in bytes of the disk when the snapshot was taken; that of today where the entry does not say.</summary>
    public required long DiskSize { get; init; }

    /// <summary>Seconds since 1970, UTC.</summary>
    public required long DateSeconds { get; init; }

    /// <summary>0 to 999,999,999 by the specification; as stored.</summary>
    public required long DateNanoseconds { get; init; }

    /// <summary>Guest time when the snapshot was taken.</summary>
    public required ulong VmClockNanoseconds { get; init; }

    /// <summary>Bytes of saved machine state; 0 for a snapshot of the disk alone.</summary>
    public required long VmStateSize { get; init; }

    /// <summary>Instruction count of a replay, or null.</summary>
    public long? InstructionCount { get; init; }

    /// <summary>Bytes of the entry in the table, padding included.</summary>
    public int StoredLength { get; init; }
}

/// <summary>Reads the list of internal snapshots (qcow2 specification, "Snapshots"). The snapshots' own tables are not looked at.</summary>
public static class SnapshotTable
{
    //  0: u64 L1 offset   8: u32 L1 entries  12: u16 id length  14: u16 name length  16: u32 date s   20: u32 date ns
    // 24: u64 VM clock   32: u32 state size  36: u32 extra length  40: extra (0: u64 state size  8: u64 disk size  16: u64 icount)
    // then id, name, padding to 8
    private const int IdLengthOffset = 12;
    private const int NameLengthOffset = 14;
    private const int ExtraLengthOffset = 36;
    private const int EntryBytesMax = (Qcow2Limits.SnapshotEntryBytesMin + Qcow2Limits.SnapshotExtraBytesMax + (2 * ushort.MaxValue) + 7) & ~7;

    // Several of the longest entries, so that short ones do not cost a read each.
    private const int WindowBytesMax = 1 << 20;

    /// <summary>Reads all entries; at most 64 MiB of the file.</summary>
    /// <exception cref="ImageFormatException">The table breaks a limit or reaches past the end of the file.</exception>
    public static async ValueTask<IReadOnlyList<SnapshotEntry>> LoadAsync(StorageFile file, Qcow2Header header)
    {
        var snapshots = new List<SnapshotEntry>(Math.Min(header.SnapshotCount, 1024));
        byte[] window = header.SnapshotCount == 0 ? [] : new byte[WindowBytes(file, header)];
        long windowStart = header.SnapshotsOffset;
        int windowLength = 0;
        int position = 0;
        long tableLength = 0;
        long fileLength = file.Length;
        for (int i = 0; i < header.SnapshotCount; i++)
        {
            if (windowLength - position < EntryBytesMax && windowStart + windowLength < fileLength)
            {
                windowStart += position;
                position = 0;
                windowLength = (int)Math.Clamp(fileLength - windowStart, 0, window.Length);
                await file.ReadAsync(windowStart, window.AsMemory(0, windowLength));
            }

            ReadOnlySpan<byte> rest = window.AsSpan(position, windowLength - position);
            int length = CheckedLength(rest, i, ref tableLength, file.Name);
            snapshots.Add(Decode(rest, header) with { StoredLength = length });
            position += Math.Min(length, rest.Length);
        }

        return snapshots;
    }

    private static int WindowBytes(StorageFile file, Qcow2Header header) => (int)Math.Min(
        Math.Max(file.Length - header.SnapshotsOffset, 0),
        Math.Min((long)header.SnapshotCount * EntryBytesMax, WindowBytesMax));

    // The length with padding; the last entry's padding may lie past the end of the file.
    private static int CheckedLength(ReadOnlySpan<byte> rest, int index, ref long tableLength, string name)
    {
        if (rest.Length < Qcow2Limits.SnapshotEntryBytesMin)
        {
            throw PastEnd(index, name);
        }

        uint extra = BinaryPrimitives.ReadUInt32BigEndian(rest[ExtraLengthOffset..]);
        if (extra > Qcow2Limits.SnapshotExtraBytesMax)
        {
            throw Qcow2HeaderValidator.Refuse(
                name, $"snapshot {index} has {extra} bytes of extra data, more than {Qcow2Limits.SnapshotExtraBytesMax}");
        }

        int length = Qcow2Limits.SnapshotEntryBytesMin + (int)extra
            + BinaryPrimitives.ReadUInt16BigEndian(rest[IdLengthOffset..])
            + BinaryPrimitives.ReadUInt16BigEndian(rest[NameLengthOffset..]);
        if (length > rest.Length)
        {
            throw PastEnd(index, name);
        }

        length = (length + 7) & ~7;
        tableLength += length;
        return tableLength <= Qcow2Limits.SnapshotTableBytesMax
            ? length
            : throw Qcow2HeaderValidator.Refuse(name, $"the snapshot table is longer than {Qcow2Limits.SnapshotTableBytesMax} bytes");
    }

    private static ImageFormatException PastEnd(int index, string name) =>
        Qcow2HeaderValidator.Refuse(name, $"snapshot {index} of the snapshot table lies past the end of the file");

    private static SnapshotEntry Decode(ReadOnlySpan<byte> entry, Qcow2Header header)
    {
        int extraLength = (int)BinaryPrimitives.ReadUInt32BigEndian(entry[ExtraLengthOffset..]);
        ReadOnlySpan<byte> extra = entry.Slice(Qcow2Limits.SnapshotEntryBytesMin, extraLength);
        ReadOnlySpan<byte> texts = entry[(Qcow2Limits.SnapshotEntryBytesMin + extraLength)..];
        int idLength = BinaryPrimitives.ReadUInt16BigEndian(entry[IdLengthOffset..]);
        int nameLength = BinaryPrimitives.ReadUInt16BigEndian(entry[NameLengthOffset..]);
        long icount = extraLength >= 24 ? BinaryPrimitives.ReadInt64BigEndian(extra[16..]) : -1;
        return new SnapshotEntry
        {
            Id = Encoding.UTF8.GetString(texts[..idLength]),
            Name = Encoding.UTF8.GetString(texts.Slice(idLength, nameLength)),
            L1TableOffset = BinaryPrimitives.ReadInt64BigEndian(entry),
            L1Size = BinaryPrimitives.ReadInt32BigEndian(entry[8..]),
            DateSeconds = BinaryPrimitives.ReadUInt32BigEndian(entry[16..]),
            DateNanoseconds = BinaryPrimitives.ReadUInt32BigEndian(entry[20..]),
            VmClockNanoseconds = BinaryPrimitives.ReadUInt64BigEndian(entry[24..]),
            VmStateSize = extraLength >= 8
                ? BinaryPrimitives.ReadInt64BigEndian(extra)
                : BinaryPrimitives.ReadUInt32BigEndian(entry[32..]),
            DiskSize = extraLength >= 16 ? BinaryPrimitives.ReadInt64BigEndian(extra[8..]) : header.Size,
            InstructionCount = icount == -1 ? null : icount,
        };
    }
}
