using System.Buffers.Binary;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>Visits the host clusters of persistent bitmaps: directory, tables, data (qcow2 specification, "Bitmaps").</summary>
internal sealed class BitmapWalk
{
    private const int DirectoryEntryMinimum = 24;
    private const ulong OffsetMask = 0x00fffffffffffe00;
    private const ulong Reserved = 0xff000000000001fe;
    private const ulong AllOnes = 1;

    // 1 GiB of entries is more than any bitmap of the format can need.
    private const long TableBytesMax = 1L << 30;

    private readonly StorageFile _file;
    private readonly CheckedLayout _layout;
    private readonly ClusterReferences _references;

    internal BitmapWalk(StorageFile file, CheckedLayout layout, ClusterReferences references)
    {
        _file = file;
        _layout = layout;
        _references = references;
    }

    /// <summary>Counts every reference into the current window.</summary>
    internal async ValueTask RunAsync()
    {
        if (_layout.BitmapCount == 0)
        {
            return;
        }

        long offset = _layout.BitmapDirectoryOffset;
        long end = offset + Math.Min(_layout.BitmapDirectoryLength, long.MaxValue - offset);
        _references.Add(offset, _layout.BitmapDirectoryLength, ClusterUse.Structure, active: true, referrer: 0);
        byte[] entry = new byte[DirectoryEntryMinimum];
        for (int i = 0; i < _layout.BitmapCount; i++)
        {
            if (offset > Math.Min(end, _layout.FileLength) - DirectoryEntryMinimum)
            {
                _references.Report(CheckFindingKind.Unreadable, offset, $"bitmap {i} at {offset} lies past the end of the directory");
                return;
            }

            await _file.ReadAsync(offset, entry);
            long tableOffset = (long)(BinaryPrimitives.ReadUInt64BigEndian(entry) & long.MaxValue);
            long tableBytes = BinaryPrimitives.ReadUInt32BigEndian(entry.AsSpan(8)) * 8L;
            int name = BinaryPrimitives.ReadUInt16BigEndian(entry.AsSpan(18));
            uint extra = BinaryPrimitives.ReadUInt32BigEndian(entry.AsSpan(20));
            await VisitTableAsync(tableOffset, tableBytes, offset);
            offset += (DirectoryEntryMinimum + extra + name + 7L) & ~7L;
        }
    }

    private async ValueTask VisitTableAsync(long tableOffset, long tableBytes, long referrer)
    {
        if ((tableOffset & (_layout.ClusterSize - 1)) != 0 || tableBytes > TableBytesMax)
        {
            _references.Report(CheckFindingKind.Misaligned, referrer, $"the bitmap at {referrer} has a table of {tableBytes} bytes at {tableOffset}");
            return;
        }

        _references.Add(tableOffset, tableBytes, ClusterUse.Structure, active: true, referrer);
        if (tableOffset + tableBytes - _layout.FileLength >= _layout.ClusterSize)
        {
            return;
        }

        TableReader table = new(_file, tableBytes);
        table.Select(tableOffset, tableBytes);
        for (long i = 0; i < tableBytes / 8; i++)
        {
            ulong entry = await table.ReadAsync(i);
            long offset = (long)(entry & OffsetMask);
            long place = tableOffset + (i * 8);
            if ((entry & Reserved) != 0 || (offset != 0 && (entry & AllOnes) != 0))
            {
                _references.Report(CheckFindingKind.ReservedBits, place, $"the bitmap table entry at {place} is {entry:x}");
            }
            else if (offset != 0)
            {
                _references.Add(offset, _layout.ClusterSize, ClusterUse.Structure, active: true, place);
            }
        }
    }
}
