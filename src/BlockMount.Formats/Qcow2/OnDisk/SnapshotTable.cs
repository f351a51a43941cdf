using System.Buffers.Binary;
using System.Text;
using BlockMount.Base;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>
/// Reads and writes the list of internal snapshots (qcow2 specification, "Snapshots"). The snapshots' own tables are not looked at.
/// </summary>
public static class SnapshotTable
{
    /// <summary>Bytes of extra data in a new entry: state size, disk size, instruction count.</summary>
    private const int NewExtraBytes = 24;

    /// <summary>Version 3 asks for state size and disk size at least.</summary>
    private const int Version3ExtraBytesMin = 16;

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
    public static async ValueTask<IReadOnlyList<SnapshotEntry>> LoadAsync(StorageFile file, Qcow2Header header) =>
        (await LoadTableAsync(file, header)).Entries;

    /// <summary>The same, with the length of the table in the file.</summary>
    /// <exception cref="ImageFormatException">The table breaks a limit or reaches past the end of the file.</exception>
    internal static async ValueTask<StoredSnapshotTable> LoadTableAsync(StorageFile file, Qcow2Header header)
    {
        var snapshots = new List<SnapshotEntry>(Math.Min(header.SnapshotCount, 1024));
        byte[] window = header.SnapshotCount == 0 ? [] : new byte[WindowBytes(file, header)];
        long windowStart = header.SnapshotsOffset;
        int windowLength = 0;
        int position = 0;
        long tableLength = 0;
        long fileLength = file.Length;
        long end = 0;
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
            // The last entry's padding does not count: it may lie in a cluster that is not the table's.
            end = tableLength - length + UnpaddedLength(rest);
            position += Math.Min(length, rest.Length);
        }

        return new StoredSnapshotTable(snapshots, end);
    }

    /// <summary>
    /// The table as bytes. Entries that were read keep their id, name and extra data byte for byte, except that in version 3 extra data too short for
    /// the disk size is made long enough.
    /// </summary>
    /// <exception cref="BlockIOException">EFBIG: longer than 64 MiB.</exception>
    public static byte[] Encode(IReadOnlyList<SnapshotEntry> entries, int version)
    {
        long total = 0;
        foreach (SnapshotEntry entry in entries)
        {
            total = Alignment.Up(total, 8) + EncodedLength(entry, version);
        }

        if (total > Qcow2Limits.SnapshotTableBytesMax)
        {
            throw new BlockIOException(
                Errno.EFBIG, $"a snapshot table of {total} bytes, more than {Qcow2Limits.SnapshotTableBytesMax}", "Delete snapshots that are not needed any more");
        }

        byte[] table = new byte[total];
        int position = 0;
        foreach (SnapshotEntry entry in entries)
        {
            position = (int)Alignment.Up(position, 8);
            int length = EncodedLength(entry, version);
            EncodeEntry(entry, ExtraLength(entry, version), table.AsSpan(position, length));
            position += length;
        }

        return table;
    }

    private static int ExtraLength(SnapshotEntry entry, int version)
    {
        int least = !entry.IsStored ? NewExtraBytes : version >= 3 ? Version3ExtraBytesMin : 0;
        return entry.ExtraData.Length < least ? NewExtraBytes : entry.ExtraData.Length;
    }

    private static int EncodedLength(SnapshotEntry entry, int version) =>
        Qcow2Limits.SnapshotEntryBytesMin + ExtraLength(entry, version) + IdBytes(entry).Length + NameBytes(entry).Length;

    private static ReadOnlySpan<byte> IdBytes(SnapshotEntry entry) => entry.IsStored ? entry.StoredId.Span : Encoding.UTF8.GetBytes(entry.Id);

    private static ReadOnlySpan<byte> NameBytes(SnapshotEntry entry) =>
        entry.IsStored ? entry.StoredName.Span : Encoding.UTF8.GetBytes(entry.Name);

    private static void EncodeEntry(SnapshotEntry entry, int extraLength, Span<byte> bytes)
    {
        ReadOnlySpan<byte> id = IdBytes(entry);
        ReadOnlySpan<byte> name = NameBytes(entry);
        BinaryPrimitives.WriteInt64BigEndian(bytes, entry.L1TableOffset);
        BinaryPrimitives.WriteInt32BigEndian(bytes[8..], entry.L1Size);
        BinaryPrimitives.WriteUInt16BigEndian(bytes[IdLengthOffset..], (ushort)id.Length);
        BinaryPrimitives.WriteUInt16BigEndian(bytes[NameLengthOffset..], (ushort)name.Length);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[16..], (uint)entry.DateSeconds);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[20..], (uint)entry.DateNanoseconds);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[24..], entry.VmClockNanoseconds);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[32..], entry.VmStateSize is >= 0 and <= uint.MaxValue ? (uint)entry.VmStateSize : 0);
        BinaryPrimitives.WriteInt32BigEndian(bytes[ExtraLengthOffset..], extraLength);
        Span<byte> extra = bytes.Slice(Qcow2Limits.SnapshotEntryBytesMin, extraLength);
        EncodeExtra(entry, extra);
        id.CopyTo(bytes[(Qcow2Limits.SnapshotEntryBytesMin + extraLength)..]);
        name.CopyTo(bytes[(Qcow2Limits.SnapshotEntryBytesMin + extraLength + id.Length)..]);
    }

    private static void EncodeExtra(SnapshotEntry entry, Span<byte> extra)
    {
        entry.ExtraData.Span.CopyTo(extra);
        if (extra.Length >= 8)
        {
            BinaryPrimitives.WriteInt64BigEndian(extra, entry.VmStateSize);
        }

        if (extra.Length >= 16)
        {
            BinaryPrimitives.WriteInt64BigEndian(extra[8..], entry.DiskSize);
        }

        if (extra.Length >= 24)
        {
            BinaryPrimitives.WriteInt64BigEndian(extra[16..], entry.InstructionCount ?? -1);
        }
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

        int length = UnpaddedLength(rest);
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

    private static int UnpaddedLength(ReadOnlySpan<byte> entry) => Qcow2Limits.SnapshotEntryBytesMin
        + (int)BinaryPrimitives.ReadUInt32BigEndian(entry[ExtraLengthOffset..])
        + BinaryPrimitives.ReadUInt16BigEndian(entry[IdLengthOffset..])
        + BinaryPrimitives.ReadUInt16BigEndian(entry[NameLengthOffset..]);

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
            IsStored = true,
            ExtraData = extra.ToArray(),
            StoredId = texts[..idLength].ToArray(),
            StoredName = texts.Slice(idLength, nameLength).ToArray(),
        };
    }
}
