using System.Buffers.Binary;
using System.Diagnostics;
using System.Runtime.InteropServices;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// Reads big-endian 64-bit entries of a table in the host file, a chunk at a time. What lies in a hole is not read. Single-threaded; reused for one table
/// after another.
/// </summary>
internal sealed class TableReader
{
    private const int ChunkBytes = 64 << 10;

    private readonly StorageFile _file;
    private readonly HoleMap _holes;
    private readonly byte[] _chunk;
    private long _tableOffset;
    private long _tableBytes;

    // First byte of the table that _chunk holds; -1 when it holds nothing.
    private long _chunkStart = -1;

    // A part of the table that is known to be a hole; empty if nothing is known.
    private long _holeStart;
    private long _holeEnd;

    /// <param name="holes">Shared by the readers of one file.</param>
    /// <param name="tableBytesMax">The largest table that will be asked for, in bytes.</param>
    internal TableReader(StorageFile file, HoleMap holes, long tableBytesMax)
    {
        _file = file;
        _holes = holes;
        _chunk = new byte[Math.Clamp(tableBytesMax, 8, ChunkBytes)];
    }

    /// <summary>Goes to the table of <paramref name="bytes"/> bytes at host offset <paramref name="offset"/>.</summary>
    internal void Select(long offset, long bytes)
    {
        if (offset != _tableOffset || bytes != _tableBytes)
        {
            _tableOffset = offset;
            _tableBytes = bytes;
            _chunkStart = -1;
            _holeEnd = _holeStart;
        }
    }

    /// <summary>Entry number <paramref name="index"/> of the selected table.</summary>
    internal ValueTask<ulong> ReadAsync(long index)
    {
        Debug.Assert(index >= 0);
        long position = index * 8;
        Debug.Assert(position < _tableBytes);
        if (IsInChunk(position))
        {
            return new ValueTask<ulong>(Decode(position));
        }

        return IsInHole(position) ? new ValueTask<ulong>(0UL) : LoadAsync(position);
    }

    /// <summary>
    /// How many entries from <paramref name="index"/> on, which was read last, are equal to it as far as can be said quickly: to the end of the chunk, or
    /// to the end of a hole in the file. At least 1.
    /// </summary>
    internal int RunLength(long index)
    {
        long position = index * 8;
        if (!IsInChunk(position))
        {
            Debug.Assert(IsInHole(position));
            return (int)((_holeEnd - position) / 8);
        }

        int length = (int)Math.Min(_chunk.Length, _tableBytes - _chunkStart);
        ReadOnlySpan<ulong> rest = MemoryMarshal.Cast<byte, ulong>(_chunk.AsSpan(0, length))[(int)((position - _chunkStart) / 8)..];
        int other = rest.IndexOfAnyExcept(rest[0]);
        return other < 0 ? rest.Length : other;
    }

    private bool IsInChunk(long position) => _chunkStart >= 0 && position >= _chunkStart && position < _chunkStart + _chunk.Length;

    private bool IsInHole(long position) => position >= _holeStart && position < _holeEnd;

    private async ValueTask<ulong> LoadAsync(long position)
    {
        long start = position / _chunk.Length * _chunk.Length;
        long skipped = await _holes.SkippableAsync(_tableOffset + start, _tableBytes - start, _chunk.Length);
        if (skipped > 0)
        {
            (_holeStart, _holeEnd) = (start, start + skipped);
            return 0;
        }

        _chunkStart = -1;
        await _file.ReadAsync(_tableOffset + start, _chunk.AsMemory(0, (int)Math.Min(_chunk.Length, _tableBytes - start)));
        _chunkStart = start;
        return Decode(position);
    }

    private ulong Decode(long position) => BinaryPrimitives.ReadUInt64BigEndian(_chunk.AsSpan((int)(position - _chunkStart)));
}
