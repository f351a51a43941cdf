using System.Buffers.Binary;
using System.Runtime.InteropServices;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>One L2 table in the byte order of the disk, loaded whole; reused for one table after another. Single-threaded.</summary>
internal sealed class CheckedL2Table
{
    private readonly StorageFile _file;
    private readonly CheckedLayout _layout;
    private readonly byte[] _bytes;

    internal CheckedL2Table(StorageFile file, CheckedLayout layout)
    {
        _file = file;
        _layout = layout;
        _bytes = new byte[layout.ClusterSize];
    }

    /// <summary>Host offset of the table that is loaded; it need not be aligned.</summary>
    internal long Offset { get; private set; }

    internal ValueTask LoadAsync(long offset)
    {
        Offset = offset;
        return _file.ReadAsync(offset, _bytes);
    }

    /// <summary>Writes the table to <paramref name="offset"/>.</summary>
    internal ValueTask StoreAsync(long offset) => _file.WriteAsync(offset, _bytes);

    /// <summary>Host offset of an entry.</summary>
    internal long PlaceOf(int index) => Offset + (index * (long)_layout.L2EntrySize);

    /// <summary>The first entry from <paramref name="index"/> on that is not all zeros; the number of entries if there is none.</summary>
    internal int NextUsed(int index)
    {
        int words = _layout.L2EntrySize / 8;
        if (index >= _layout.L2Entries)
        {
            return index;
        }

        int found = MemoryMarshal.Cast<byte, ulong>(_bytes.AsSpan())[(index * words)..].IndexOfAnyExcept(0UL);
        return found < 0 ? _layout.L2Entries : index + (found / words);
    }

    internal CheckedL2Entry this[int index]
    {
        get
        {
            ReadOnlySpan<byte> bytes = _bytes.AsSpan(index * _layout.L2EntrySize);
            return new CheckedL2Entry(
                BinaryPrimitives.ReadUInt64BigEndian(bytes), _layout.HasSubclusters ? BinaryPrimitives.ReadUInt64BigEndian(bytes[8..]) : 0);
        }

        set
        {
            Span<byte> bytes = _bytes.AsSpan(index * _layout.L2EntrySize);
            BinaryPrimitives.WriteUInt64BigEndian(bytes, value.Word);
            if (_layout.HasSubclusters)
            {
                BinaryPrimitives.WriteUInt64BigEndian(bytes[8..], value.Bitmap);
            }
        }
    }
}
