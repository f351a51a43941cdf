using System.Buffers.Binary;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>One entry of the bitmap directory that can be followed.</summary>
/// <param name="Place">Host offset of the entry.</param>
/// <param name="EntryBytes">Bytes of the entry, padding included.</param>
/// <param name="TableOffset">Host offset of the bitmap's table.</param>
/// <param name="TableBytes">Bytes of the table.</param>
internal readonly record struct BitmapDirectoryEntry(long Place, int EntryBytes, long TableOffset, long TableBytes);

/// <summary>Visits the host clusters of persistent bitmaps: directory, tables, data (qcow2 specification, "Bitmaps").</summary>
internal sealed class BitmapWalk
{
    internal const ulong OffsetMask = 0x00fffffffffffe00;
    private const int DirectoryEntryMinimum = 24;
    private const ulong Reserved = 0xff000000000001fe;
    private const ulong AllOnes = 1;
    private const int NameBytesMax = 1023;

    private readonly StorageFile _file;
    private readonly CheckedLayout _layout;
    private readonly HoleMap _holes;
    private readonly ClusterReferences _references;
    private readonly HashSet<int> _damaged = [];
    private TableReader? _table;

    // Tables that were visited, with the number of the first bitmap, and how many others name them; more than one is damage or malice.
    private readonly Dictionary<(long Offset, long Bytes), (int First, long Repeats)> _visited = [];

    internal BitmapWalk(StorageFile file, CheckedLayout layout, HoleMap holes, ClusterReferences references)
    {
        _file = file;
        _layout = layout;
        _holes = holes;
        _references = references;
    }

    /// <summary>Bitmaps that are damaged, as indices into the directory; filled by <see cref="RunAsync"/>.</summary>
    internal IReadOnlySet<int> Damaged => _damaged;

    /// <summary>The directory itself cannot be read to its end; no bitmap can be trusted.</summary>
    internal bool IsDirectoryDamaged { get; private set; }

    /// <summary>The entries up to the first that cannot be read; filled by <see cref="RunAsync"/>.</summary>
    internal List<BitmapDirectoryEntry> Entries { get; } = [];

    /// <summary>Counts every reference into the current window. The image has a bitmaps extension.</summary>
    internal async ValueTask RunAsync()
    {
        if (_layout.BitmapExtensionFault() is { } fault)
        {
            DirectoryFault(_layout.BitmapExtensionPlace, fault);
            return;
        }

        if (!_references.Add(_layout.BitmapDirectoryOffset, _layout.BitmapDirectoryLength, ClusterUses.Bitmaps, active: true, _layout.BitmapExtensionPlace))
        {
            IsDirectoryDamaged = true;
            return;
        }

        if (await ReadDirectoryAsync())
        {
            await VisitTablesAsync();
        }
    }

    private async ValueTask VisitTablesAsync()
    {
        IReadOnlySet<(long, long)> unreadable = TableOverlaps.FindUnreadable(
            [.. Entries.Select(entry => (entry.TableOffset, entry.TableBytes))], _file.AllocatedBytes);
        _table = new TableReader(_file, _holes, Entries.Max(entry => entry.TableBytes));
        for (int i = 0; i < Entries.Count; i++)
        {
            BitmapDirectoryEntry entry = Entries[i];
            if (unreadable.Contains((entry.TableOffset, entry.TableBytes)))
            {
                _ = _damaged.Add(i);
                _references.Report(
                    CheckFindingKind.Unchecked, entry.Place, $"bitmap {i} has a table of {entry.TableBytes} bytes at {entry.TableOffset}, over too many others or in too large a hole; it was not read");
            }
            else
            {
                await VisitOnceAsync(i, entry);
            }
        }

        foreach ((int first, long repeats) in _visited.Values.Where(visit => visit.Repeats > 0))
        {
            _ = await VisitTableAsync(_table, Entries[first], repeats);
        }
    }

    private async ValueTask<bool> ReadDirectoryAsync()
    {
        long offset = _layout.BitmapDirectoryOffset;
        long end = offset + _layout.BitmapDirectoryLength;
        byte[] entry = new byte[DirectoryEntryMinimum];
        for (int i = 0; i < _layout.BitmapCount; i++)
        {
            if (offset > end - DirectoryEntryMinimum)
            {
                return DirectoryFault(offset, $"bitmap {i} at {offset} lies past the end of the directory");
            }

            await _file.ReadAsync(offset, entry);
            string? fault = EntryFault(entry, end - offset, out int entryBytes);
            if (fault is not null)
            {
                return DirectoryFault(offset, $"the entry of bitmap {i} at {offset} {fault}");
            }

            Entries.Add(new BitmapDirectoryEntry(
                offset, entryBytes, (long)(BinaryPrimitives.ReadUInt64BigEndian(entry) & long.MaxValue), BinaryPrimitives.ReadUInt32BigEndian(entry.AsSpan(8)) * 8L));
            offset += entryBytes;
        }

        return offset == end || DirectoryFault(offset, $"the bitmap directory ends at {offset}, the header says {end}");
    }

    private string? EntryFault(ReadOnlySpan<byte> entry, long left, out int entryBytes)
    {
        ulong tableOffset = BinaryPrimitives.ReadUInt64BigEndian(entry);
        uint tableEntries = BinaryPrimitives.ReadUInt32BigEndian(entry[8..]);
        int name = BinaryPrimitives.ReadUInt16BigEndian(entry[18..]);
        uint extra = BinaryPrimitives.ReadUInt32BigEndian(entry[20..]);
        entryBytes = (int)Math.Min((DirectoryEntryMinimum + (long)extra + name + 7) & ~7L, int.MaxValue);
        if (entryBytes > left || name is 0 or > NameBytesMax || extra != 0)
        {
            return $"has {extra} bytes of extra data and {name} of name";
        }

        uint flags = BinaryPrimitives.ReadUInt32BigEndian(entry[12..]);
        if ((flags & ~3u) != 0 || entry[16] != 1 || entry[17] is < 9 or > 31)
        {
            return $"has flags {flags:x}, type {entry[16]} and granularity_bits {entry[17]}";
        }

        // A bitmap larger than that QEMU does not read, and takes the whole directory for broken.
        return tableEntries == 0 || (long)tableEntries << _layout.ClusterBits > Qcow2Limits.BitmapBytesMax || tableOffset == 0 || !_layout.IsAligned((long)(tableOffset & long.MaxValue)) || tableOffset >= Qcow2Limits.HostOffsetEnd
            ? $"has a table of {tableEntries} entries at {tableOffset}"
            : null;
    }

    private bool DirectoryFault(long place, string description)
    {
        IsDirectoryDamaged = true;
        _references.Report(CheckFindingKind.Unreadable, place, description);
        return false;
    }

    private async ValueTask VisitOnceAsync(int bitmap, BitmapDirectoryEntry directory)
    {
        (long, long) table = (directory.TableOffset, directory.TableBytes);
        bool damaged;
        if (_visited.TryGetValue(table, out (int First, long Repeats) before))
        {
            _visited[table] = before with { Repeats = before.Repeats + 1 };
            damaged = _damaged.Contains(before.First);
        }
        else
        {
            _visited.Add(table, (bitmap, 0));
            damaged = !await VisitTableAsync(_table!, directory, times: 1);
        }

        if (damaged)
        {
            _ = _damaged.Add(bitmap);
        }
    }

    // False if the bitmap is damaged.
    private async ValueTask<bool> VisitTableAsync(TableReader table, BitmapDirectoryEntry directory, long times)
    {
        if (!_references.Add(directory.TableOffset, directory.TableBytes, ClusterUses.Bitmaps, active: true, directory.Place, times))
        {
            return false;
        }

        table.Select(directory.TableOffset, directory.TableBytes);
        bool damaged = false;
        int run;
        for (long i = 0; i < directory.TableBytes / 8; i += run)
        {
            ulong entry = await table.ReadAsync(i);
            run = table.RunLength(i);
            long offset = (long)(entry & OffsetMask);
            long place = directory.TableOffset + (i * 8);
            if ((entry & Reserved) != 0 || (offset != 0 && (entry & AllOnes) != 0) || !_layout.IsAligned(offset))
            {
                _references.Report(CheckFindingKind.ReservedBits, place, $"the bitmap table entry at {place} is {entry:x}", times: times * run);
                damaged = true;
            }
            else if (offset != 0)
            {
                damaged |= !_references.Add(offset, _layout.ClusterSize, ClusterUses.Bitmaps, active: true, place, times * run);
            }
        }

        return !damaged;
    }
}
