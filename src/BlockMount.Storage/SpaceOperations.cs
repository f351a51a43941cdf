using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Base.Interop;

namespace BlockMount.Storage;

/// <summary>
/// Zeroes, holes and hole maps of one file; remembers what the file system cannot do. Every method may block and runs on
/// an I/O thread.
/// <para>Block devices take the same fallocate modes (they promise zeros, which BLKDISCARD does not), but only whole
/// sectors; ragged edges are overwritten.</para>
/// </summary>
internal sealed class SpaceOperations
{
    private const int PunchMode = LinuxConstants.FALLOC_FL_PUNCH_HOLE | LinuxConstants.FALLOC_FL_KEEP_SIZE;
    private const int ZeroBytesMax = 1 << 20;

    private readonly PosixHandle _handle;
    private readonly FileSize _size;

    // Only ever change from false to true; a race costs one more refused call.
    private volatile bool _cannotPunch;
    private volatile bool _cannotZero;

    public SpaceOperations(PosixHandle handle, FileSize size)
    {
        _handle = handle;
        _size = size;
    }

    /// <summary>See <see cref="StorageFile.PunchHoleAsync"/>.</summary>
    public bool Punch(long offset, long length)
    {
        if (_cannotPunch)
        {
            return false;
        }

        if (!_handle.IsBlockDevice)
        {
            return TryPunch(offset, length);
        }

        long end = Math.Min(offset + length, _size.Length);
        long innerStart = Alignment.Up(offset, AlignedBuffer.PageSize);
        long innerEnd = Alignment.Down(end, AlignedBuffer.PageSize);
        if (innerStart >= innerEnd || !TryPunch(innerStart, innerEnd - innerStart))
        {
            return false;
        }

        WriteZeros(offset, innerStart);
        WriteZeros(innerEnd, end);
        return true;
    }

    /// <summary>See <see cref="StorageFile.WriteZeroesAsync"/>.</summary>
    public void Zero(long offset, long length, bool mayUnmap)
    {
        long end = checked(offset + length);
        if (_handle.IsBlockDevice)
        {
            ZeroDevice(offset, end, mayUnmap);
            return;
        }

        if (end <= _size.Length)
        {
            ZeroInside(offset, end, mayUnmap);
            _size.ConfirmWritten(end);
            return;
        }

        lock (_size.Growth)
        {
            try
            {
                ZeroGrowing(offset, end, mayUnmap);
            }
            finally
            {
                _size.RefreshLocked();
            }
        }
    }

    /// <summary>See <see cref="StorageFile.MapAsync"/>.</summary>
    public FileExtent Map(long offset, long length)
    {
        long data = Libc.lseek(_handle.Fd, offset, LinuxConstants.SEEK_DATA);
        if (data < 0)
        {
            // ENXIO: nothing but hole from here to the end. Anything else: a file system that cannot tell.
            bool onlyHole = Libc.LastErrno == Errno.ENXIO && !_handle.IsBlockDevice;
            return new FileExtent(length, onlyHole);
        }

        if (data > offset)
        {
            return new FileExtent(Math.Min(length, data - offset), IsHole: true);
        }

        // A concurrent punch may have moved things between the calls; at least one byte is always answered.
        long hole = Libc.lseek(_handle.Fd, offset, LinuxConstants.SEEK_HOLE);
        return new FileExtent(hole > offset ? Math.Min(length, hole - offset) : length, IsHole: false);
    }

    private void ZeroInside(long offset, long end, bool mayUnmap)
    {
        if (mayUnmap && TryPunch(offset, end - offset))
        {
            return;
        }

        if (TryZeroRange(LinuxConstants.FALLOC_FL_KEEP_SIZE, offset, end - offset))
        {
            return;
        }

        // tmpfs knows no ZERO_RANGE; a hole that is allocated again is the same. Out of space in between leaves zeros.
        if (!mayUnmap && TryPunch(offset, end - offset) &&
            _handle.TryAllocate(LinuxConstants.FALLOC_FL_KEEP_SIZE, offset, end - offset))
        {
            return;
        }

        WriteZeros(offset, end);
    }

    private void ZeroGrowing(long offset, long end, bool mayUnmap)
    {
        long oldLength = _handle.QueryLength();
        if (!mayUnmap && end > oldLength && TryZeroRange(0, offset, end - offset))
        {
            return;
        }

        if (offset < oldLength)
        {
            ZeroInside(offset, Math.Min(end, oldLength), mayUnmap);
        }

        if (end <= oldLength)
        {
            return;
        }

        // The new part is a hole, which reads as zeros on every file system; then, if asked, space for it. Where
        // fallocate(2) is unknown the space is only promised "where the file system can do so".
        _handle.Truncate(end);
        if (!mayUnmap)
        {
            long start = Math.Max(offset, oldLength);
            _ = _handle.TryAllocate(0, start, end - start);
        }
    }

    private void ZeroDevice(long offset, long end, bool mayUnmap)
    {
        long innerStart = Alignment.Up(offset, AlignedBuffer.PageSize);
        long innerEnd = Alignment.Down(end, AlignedBuffer.PageSize);
        if (end > _size.Length)
        {
            throw new BlockIOException(Errno.ENOSPC, $"zeroing up to {end} on '{_handle.Name}', which ends at {_size.Length}");
        }

        if (innerStart >= innerEnd)
        {
            WriteZeros(offset, end);
            return;
        }

        WriteZeros(offset, innerStart);
        WriteZeros(innerEnd, end);
        long length = innerEnd - innerStart;
        if (!(mayUnmap && TryPunch(innerStart, length)) &&
            !TryZeroRange(LinuxConstants.FALLOC_FL_KEEP_SIZE, innerStart, length))
        {
            WriteZeros(innerStart, innerEnd);
        }
    }

    private bool TryPunch(long offset, long length)
    {
        if (_cannotPunch)
        {
            return false;
        }

        bool done = _handle.TryAllocate(PunchMode, offset, length);
        _cannotPunch |= !done;
        return done;
    }

    private bool TryZeroRange(int sizeFlag, long offset, long length)
    {
        if (_cannotZero)
        {
            return false;
        }

        bool done = _handle.TryAllocate(LinuxConstants.FALLOC_FL_ZERO_RANGE | sizeFlag, offset, length);
        _cannotZero |= !done;
        return done;
    }

    private void WriteZeros(long offset, long end)
    {
        if (offset >= end)
        {
            return;
        }

        AlignedBuffer zeros = AlignedBufferPool.Shared.Rent((int)Math.Min(end - offset, ZeroBytesMax));
        try
        {
            Span<byte> content = zeros.GetSpan();
            content.Clear();
            while (offset < end)
            {
                int count = (int)Math.Min(end - offset, content.Length);
                _handle.Write(offset, content[..count]);
                offset += count;
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(zeros);
        }
    }
}
