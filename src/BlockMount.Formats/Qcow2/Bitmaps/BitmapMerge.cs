using BlockMount.Base;

namespace BlockMount.Formats.Qcow2.Bitmaps;

/// <summary>The union of two bitmaps of disks of one size, whose granularities may differ.</summary>
public sealed class BitmapMerge
{
    private const int ChunkBytes = 64 << 10;

    private readonly BitmapReader _target;
    private readonly int _targetBits;
    private readonly BitmapReader _source;
    private readonly int _sourceBits;
    private readonly long _diskSize;
    private readonly byte[] _chunk = new byte[ChunkBytes];

    /// <param name="targetBits">log2 of the granularity of the result and of <paramref name="target"/>.</param>
    /// <param name="sourceBits">The same of <paramref name="source"/>.</param>
    /// <param name="diskSize">Bytes of the disk that both describe.</param>
    public BitmapMerge(BitmapReader target, int targetBits, BitmapReader source, int sourceBits, long diskSize)
    {
        _target = target;
        _targetBits = targetBits;
        _source = source;
        _sourceBits = sourceBits;
        _diskSize = diskSize;
    }

    /// <summary>The result, to be stored; a <see cref="BitmapSource"/>.</summary>
    public async ValueTask ReadAsync(long offset, Memory<byte> bytes)
    {
        await _target.ReadAsync(offset, bytes);
        long firstBit = offset * 8;
        long guestStart = firstBit << _targetBits;
        long guestEnd = Math.Min((firstBit + (bytes.Length * 8L)) << _targetBits, _diskSize);
        long sourceEnd = StoredBitmap.BytesFor(guestEnd, _sourceBits);
        for (long at = guestStart >> _sourceBits >> 3; at < sourceEnd; at += ChunkBytes)
        {
            int length = (int)Math.Min(ChunkBytes, sourceEnd - at);
            await _source.ReadAsync(at, _chunk.AsMemory(0, length));
            Add(at, _chunk.AsSpan(0, length), bytes.Span, firstBit, guestEnd);
        }
    }

    private void Add(long at, ReadOnlySpan<byte> source, Span<byte> target, long firstBit, long guestEnd)
    {
        for (int i = source.IndexOfAnyExcept((byte)0); i >= 0 && i < source.Length; i++)
        {
            for (int bit = 0; source[i] != 0 && bit < 8; bit++)
            {
                if ((source[i] & (1 << bit)) != 0)
                {
                    long start = (((at + i) * 8) + bit) << _sourceBits;
                    long end = Math.Min(start + (1L << _sourceBits), guestEnd);
                    Set(target, (start >> _targetBits) - firstBit, Alignment.DivideUp(end, 1L << _targetBits) - firstBit);
                }
            }
        }
    }

    // Bits [first, end) as far as they lie in target.
    private static void Set(Span<byte> target, long first, long end)
    {
        end = Math.Min(end, target.Length * 8L);
        for (long bit = Math.Max(first, 0); bit < end; bit++)
        {
            target[(int)(bit >> 3)] |= (byte)(1 << (int)(bit & 7));
        }
    }
}
