using BlockMount.Base;
using BlockMount.Base.Buffers;

namespace BlockMount.Storage;

/// <summary>
/// Reads and writes with O_DIRECT for callers that know no alignment. Aligned requests go straight from the caller's
/// memory, others through a bounce buffer with read-modify-write of the ragged blocks. What blocks runs on an I/O thread; every
/// write's <see cref="LockRange"/> is held by the caller.
/// <para>The last block of a file whose length is not aligned: a direct write could only write the whole block, leave the
/// file too long and cut it again, so a crash or another reader in between would see a length that nobody asked for.
/// That block is written through a second, buffered descriptor instead; the length is exact at every moment. The kernel
/// writes such a page back before it lets a direct request touch it, and fdatasync covers the inode, not the descriptor.</para>
/// </summary>
internal sealed class DirectTransfer : ITransferTarget
{
    private const int BounceBytesMax = 1 << 20;

    private readonly PosixHandle _handle;
    private readonly FileSize _size;
    private readonly DirectAlignment _alignment;

    public DirectTransfer(PosixHandle handle, FileSize size, DirectAlignment alignment)
    {
        _handle = handle;
        _size = size;
        _alignment = alignment;
    }

    /// <inheritdoc/>
    public int Descriptor => _handle.Fd;

    /// <inheritdoc/>
    public int ReadUnit => _alignment.Offset;

    /// <summary>
    /// The bytes that a change of [offset, offset + length) may also write back: its blocks, and whole pages because the
    /// buffered tail works on pages.
    /// </summary>
    public static (long Start, long Length) LockRange(long offset, long length)
    {
        long start = Alignment.Down(offset, AlignedBuffer.PageSize);
        return (start, Alignment.Up(offset + length, AlignedBuffer.PageSize) - start);
    }

    /// <inheritdoc/>
    public void BlockingRead(long offset, Span<byte> buffer)
    {
        if (IsAligned(offset, buffer))
        {
            _handle.ReadDirect(offset, buffer, _alignment.Offset);
            return;
        }

        long start = Alignment.Down(offset, _alignment.Offset);
        long end = Alignment.Up(offset + buffer.Length, _alignment.Offset);
        AlignedBuffer bounce = AlignedBufferPool.Shared.Rent((int)Math.Min(end - start, BounceBytesMax));
        try
        {
            while (!buffer.IsEmpty)
            {
                int skip = (int)(offset - start);
                int covered = (int)Math.Min(end - start, BounceBytesMax);
                Span<byte> blocks = bounce.GetSpan()[..covered];
                _handle.ReadDirect(start, blocks, _alignment.Offset);
                int count = Math.Min(buffer.Length, covered - skip);
                blocks.Slice(skip, count).CopyTo(buffer);
                buffer = buffer[count..];
                offset += count;
                start += covered;
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(bounce);
        }
    }

    /// <inheritdoc/>
    public void BlockingWrite(long offset, ReadOnlySpan<byte> buffer)
    {
        long end = checked(offset + buffer.Length);
        if (end <= _size.Length)
        {
            WritePieces(offset, buffer);
            _size.ConfirmWritten(end);
            return;
        }

        lock (_size.Growth)
        {
            try
            {
                WritePieces(offset, buffer);
                _size.ExtendLocked(end);
            }
            catch
            {
                _size.RefreshLocked();
                throw;
            }
        }
    }

    /// <inheritdoc/>
    public bool IsPlainRead(long offset, ReadOnlySpan<byte> buffer) => IsAligned(offset, buffer);

    /// <inheritdoc/>
    public bool IsPlainWrite(long offset, ReadOnlySpan<byte> buffer) =>
        IsAligned(offset, buffer) && offset + buffer.Length <= _size.Length;

    /// <inheritdoc/>
    public void EndPlainWrite(long end) => _size.ConfirmWritten(end);

    /// <inheritdoc/>
    public BlockIOException PlainFailure(Errno errno, bool isWrite, long offset, int length) =>
        _handle.Failure(errno, isWrite ? "write" : "direct read", offset, length);

    private void WritePieces(long offset, ReadOnlySpan<byte> buffer)
    {
        if (IsAligned(offset, buffer))
        {
            _handle.WriteDirect(offset, buffer);
            return;
        }

        long end = offset + buffer.Length;
        long bodyEnd = EndOfDirectPart(end);
        if (offset < bodyEnd)
        {
            int body = (int)(Math.Min(end, bodyEnd) - offset);
            WriteBounced(offset, buffer[..body]);
            buffer = buffer[body..];
            offset += body;
        }

        if (!buffer.IsEmpty)
        {
            _handle.Write(offset, buffer);
        }
    }

    // Where the buffered descriptor takes over: only if the last block is ragged and the file ends inside it.
    private long EndOfDirectPart(long end)
    {
        bool wouldOvershoot = Alignment.Up(end, _alignment.Offset) > Math.Max(end, _size.Length);
        return wouldOvershoot ? Alignment.Down(end, _alignment.Offset) : end;
    }

    private void WriteBounced(long offset, ReadOnlySpan<byte> buffer)
    {
        long start = Alignment.Down(offset, _alignment.Offset);
        long end = Alignment.Up(offset + buffer.Length, _alignment.Offset);
        AlignedBuffer bounce = AlignedBufferPool.Shared.Rent((int)Math.Min(end - start, BounceBytesMax));
        try
        {
            while (!buffer.IsEmpty)
            {
                int skip = (int)(offset - start);
                int covered = (int)Math.Min(end - start, BounceBytesMax);
                int count = Math.Min(buffer.Length, covered - skip);
                Span<byte> blocks = bounce.GetSpan()[..covered];
                ReadRaggedBlocks(start, blocks, skip, skip + count);
                buffer[..count].CopyTo(blocks[skip..]);
                _handle.WriteDirect(start, blocks);
                buffer = buffer[count..];
                offset += count;
                start += covered;
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(bounce);
        }
    }

    // Loads the first block if the new data does not begin at its start, and the last if it does not end at its end.
    private void ReadRaggedBlocks(long start, Span<byte> blocks, int dataStart, int dataEnd)
    {
        int size = _alignment.Offset;
        bool headRagged = dataStart != 0;
        bool tailRagged = dataEnd != blocks.Length;
        if (headRagged)
        {
            _handle.ReadDirect(start, blocks[..size], size);
        }

        bool sameBlock = headRagged && blocks.Length == size;
        if (tailRagged && !sameBlock)
        {
            int last = blocks.Length - size;
            _handle.ReadDirect(start + last, blocks[last..], size);
        }
    }

    private unsafe bool IsAligned(long offset, ReadOnlySpan<byte> buffer)
    {
        fixed (byte* start = buffer)
        {
            return Alignment.IsAligned(offset | (long)buffer.Length, _alignment.Offset) &&
                ((nint)start & (_alignment.Memory - 1)) == 0;
        }
    }
}
