using System.Buffers.Binary;
using System.Runtime.InteropServices;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// One L2 table in the byte order of the disk, loaded whole; reused for one table after another. Single-threaded.
/// <para>After a table of nothing but zeros, which no program keeps, the next ones are suspected to lie in a hole and are not read if they do.</para>
/// </summary>
internal sealed class CheckedL2Table
{
    private readonly StorageFile _file;
    private readonly CheckedLayout _layout;
    private readonly HoleMap _holes;
    private readonly byte[] _bytes;
    private bool _isEmpty;

    internal CheckedL2Table(StorageFile file, CheckedLayout layout, HoleMap holes)
    {
        _file = file;
        _holes = holes;
        _layout = layout;
        _bytes = new byte[layout.ClusterSize];
    }

    /// <summary>Host offset of the table that is loaded; it need not be aligned.</summary>
    internal long Offset { get; private set; }

    internal ValueTask LoadAsync(long offset)
    {
        Offset = offset;
        return _isEmpty ? LoadAfterEmptyAsync(offset) : ReadAsync(offset);
    }

    /// <summary>Writes the table to <paramref name="offset"/>.</summary>
    internal ValueTask StoreAsync(long offset) => _file.WriteAsync(offset, _bytes);

    /// <summary>Host offset of an entry.</summary>
    internal long PlaceOf(int index) => Offset + (index * (long)_layout.L2EntrySize);

    /// <summary>The first entry from <paramref name="index"/> on that is not all zeros; the number of entries if there is none.</summary>
    internal int NextUsed(int index)
    {
        int words = _layout.L2EntrySize / 8;
        if (_isEmpty || index >= _layout.L2Entries)
        {
            return _layout.L2Entries;
        }

        int found = MemoryMarshal.Cast<byte, ulong>(_bytes.AsSpan())[(index * words)..].IndexOfAnyExcept(0UL);
        _isEmpty = found < 0 && index == 0;
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
            _isEmpty = false;
            Span<byte> bytes = _bytes.AsSpan(index * _layout.L2EntrySize);
            BinaryPrimitives.WriteUInt64BigEndian(bytes, value.Word);
            if (_layout.HasSubclusters)
            {
                BinaryPrimitives.WriteUInt64BigEndian(bytes[8..], value.Bitmap);
            }
        }
    }

    private ValueTask ReadAsync(long offset)
    {
        _isEmpty = false;
        return _file.ReadAsync(offset, _bytes);
    }

    // The bytes are zeros already, and stay so.
    private async ValueTask LoadAfterEmptyAsync(long offset)
    {
        if (await _holes.HoleEndAsync(offset) < offset + _bytes.Length)
        {
            await ReadAsync(offset);
        }
    }
}
