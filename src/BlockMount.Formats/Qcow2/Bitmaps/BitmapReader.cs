using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Bitmaps;

/// <summary>
/// Reads the bits of one stored bitmap, in the byte order of the disk: the least significant bit of the first byte stands for the first guest bytes. Memory is one
/// piece of the table (64 KiB). Not thread-safe. The image must not change its bitmaps meanwhile.
/// </summary>
public sealed class BitmapReader
{
    private const int ChunkEntries = 8192;
    private const ulong OffsetMask = 0x00ff_ffff_ffff_fe00;
    private const ulong AllOnesBit = 1;

    private readonly StorageFile _file;
    private readonly int _clusterSize;
    private readonly StoredBitmap _bitmap;
    private readonly byte[] _chunk;

    // First entry of the table that _chunk holds; -1 when it holds nothing.
    private long _chunkStart = -1;

    /// <param name="bitmap">Without a defect.</param>
    /// <exception cref="BlockIOException">The bitmap has a defect (EINVAL): there is nothing to read.</exception>
    public BitmapReader(StorageFile file, int clusterSize, StoredBitmap bitmap)
    {
        if (bitmap.Defect is { } defect)
        {
            throw new BlockIOException(Errno.EINVAL, $"reading the bitmap '{bitmap.Name}' of '{file.Name}': {defect}");
        }

        _file = file;
        _clusterSize = clusterSize;
        _bitmap = bitmap;
        _chunk = new byte[Math.Min(bitmap.TableEntries, ChunkEntries) * sizeof(ulong)];
    }

    /// <summary>
    /// Fills <paramref name="bytes"/> with the bitmap's bytes from <paramref name="offset"/> on. What lies behind the table reads as zeros.
    /// </summary>
    /// <exception cref="BlockIOException">The table is damaged (EIO), or the file cannot be read.</exception>
    public async ValueTask ReadAsync(long offset, Memory<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            long index = offset / _clusterSize;
            int inCluster = (int)(offset % _clusterSize);
            int length = Math.Min(_clusterSize - inCluster, bytes.Length);
            (long cluster, bool allOnes) = index < _bitmap.TableEntries ? await EntryAsync(index) : (0, false);
            if (cluster != 0)
            {
                await _file.ReadAsync(cluster + inCluster, bytes[..length]);
            }
            else
            {
                bytes[..length].Span.Fill(allOnes ? (byte)0xff : (byte)0);
            }

            offset += length;
            bytes = bytes[length..];
        }
    }

    /// <summary>One entry of the table: the host offset of the cluster with bits, 0 where all bits are alike.</summary>
    /// <exception cref="BlockIOException">The entry is damaged (EIO), or the file cannot be read.</exception>
    internal async ValueTask<(long HostOffset, bool AllOnes)> EntryAsync(long index)
    {
        long start = index / ChunkEntries * ChunkEntries;
        if (start != _chunkStart)
        {
            _chunkStart = -1;
            int entries = (int)Math.Min(ChunkEntries, _bitmap.TableEntries - start);
            await _file.ReadAsync((long)_bitmap.TableOffset + (start * sizeof(ulong)), _chunk.AsMemory(0, entries * sizeof(ulong)));
            _chunkStart = start;
        }

        ulong entry = BinaryPrimitives.ReadUInt64BigEndian(_chunk.AsSpan((int)(index - start) * sizeof(ulong)));
        long offset = (long)(entry & OffsetMask);
        bool valid = (entry & ~(OffsetMask | AllOnesBit)) == 0
            && (offset == 0 || ((entry & AllOnesBit) == 0 && offset % _clusterSize == 0 && offset < _file.Length));
        return valid
            ? (offset, offset == 0 && (entry & AllOnesBit) != 0)
            : throw new BlockIOException(Errno.EIO, $"entry {index} of the table of the bitmap '{_bitmap.Name}' of '{_file.Name}' is {entry:x}");
    }
}
