using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Exports.Fuse.Abi;
using BlockMount.Formats;

namespace BlockMount.Exports.Fuse;

/// <summary>
/// fallocate(2), SEEK_HOLE and SEEK_DATA on a device (FEATURES X27, X28). Same conventions as <see cref="FuseFileOperations"/>.
/// </summary>
internal sealed class FuseSpaceOperations
{
    private readonly BlockDevice _device;
    private readonly FuseFileOperations _file;

    // Shares the rules of growth and the bookkeeping of changes with _file.
    internal FuseSpaceOperations(BlockDevice device, FuseFileOperations file)
    {
        _device = device;
        _file = file;
    }

    /// <summary>FUSE_FALLOCATE: punch a hole, zero a range, or allocate past the end of a growable disk.</summary>
    internal async ValueTask<int> AllocateAsync(FuseRequest request, fuse_fallocate_in argument)
    {
        if (!_file.Writable)
        {
            return request.ReplyStatus(Errno.EACCES);
        }

        if (argument.length == 0 || argument.offset > long.MaxValue || argument.length > (ulong)long.MaxValue - argument.offset)
        {
            return request.ReplyStatus(argument.length == 0 ? Errno.EINVAL : Errno.EFBIG);
        }

        long offset = (long)argument.offset;
        long length = (long)argument.length;
        const int punchInside = LinuxConstants.FALLOC_FL_PUNCH_HOLE | LinuxConstants.FALLOC_FL_KEEP_SIZE;
        const int zeroInside = LinuxConstants.FALLOC_FL_ZERO_RANGE | LinuxConstants.FALLOC_FL_KEEP_SIZE;
        Errno result = (int)argument.mode switch
        {
            punchInside => await ZeroInsideAsync(offset, length, ZeroFlags.MayUnmap),
            LinuxConstants.FALLOC_FL_PUNCH_HOLE => Errno.EINVAL,
            zeroInside => await ZeroInsideAsync(offset, length, ZeroFlags.None),
            LinuxConstants.FALLOC_FL_ZERO_RANGE => await ZeroAndGrowAsync(offset, length),
            // Space inside the disk cannot be reserved without writing it: better refuse than lie.
            0 => offset < _device.Size ? Errno.EOPNOTSUPP : await ZeroAndGrowAsync(offset, length),
            _ => Errno.EOPNOTSUPP,
        };
        return request.ReplyStatus(result);
    }

    /// <summary>FUSE_LSEEK. What reads as zeros for certain counts as a hole, allocated or not.</summary>
    internal async ValueTask<int> SeekAsync(FuseRequest request, fuse_lseek_in argument)
    {
        bool findsHole = argument.whence == LinuxConstants.SEEK_HOLE;
        if (!findsHole && argument.whence != LinuxConstants.SEEK_DATA)
        {
            return request.ReplyStatus(Errno.EINVAL);
        }

        long size = _device.Size;
        if (argument.offset >= (ulong)size)
        {
            return request.ReplyStatus(Errno.ENXIO);
        }

        long offset = (long)argument.offset;
        while (offset < size)
        {
            BlockStatus status = await _device.StatusAsync(offset, size - offset);
            if (status.IsZero == findsHole)
            {
                return request.ReplyWith(new fuse_lseek_out { offset = (ulong)offset });
            }

            offset += status.Length;
        }

        // Every file ends in a hole, and there is no data behind the last data.
        return findsHole ? request.ReplyWith(new fuse_lseek_out { offset = (ulong)size }) : request.ReplyStatus(Errno.ENXIO);
    }

    // The part of the range that lies on the disk.
    private async ValueTask<Errno> ZeroInsideAsync(long offset, long length, ZeroFlags flags)
    {
        long inside = Math.Min(length, _device.Size - offset);
        if (inside <= 0)
        {
            return Errno.None;
        }

        try
        {
            await _device.ZeroAsync(offset, inside, flags);
        }
        finally
        {
            _file.ContentChanged();
        }

        return Errno.None;
    }

    private async ValueTask<Errno> ZeroAndGrowAsync(long offset, long length)
    {
        bool fits = offset + length <= _device.Size || await _file.MakeRoomAsync(offset, length) == length;
        return fits ? await ZeroInsideAsync(offset, length, ZeroFlags.None) : Errno.ENOSPC;
    }
}
