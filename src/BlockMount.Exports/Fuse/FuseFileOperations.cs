using System.Runtime.CompilerServices;
using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Base.Interop;
using BlockMount.Block.Devices;
using BlockMount.Exports.Fuse.Abi;
using static BlockMount.Exports.Fuse.Abi.FuseFlags;

namespace BlockMount.Exports.Fuse;

/// <summary>
/// What a regular file does with open, read, write, truncate and flush, done on a device (FEATURES X22-X29). Each operation builds
/// the reply in its request and returns the length of the reply frame. Failures of the device come out as exceptions. Any thread.
/// </summary>
internal sealed class FuseFileOperations
{
    // Fixed.
    private readonly BlockDevice _device;
    private readonly FuseFileAttributes _attributes;
    private readonly bool _growable;

    // 0: reads come to us.
    private readonly int _backingId;

    // Held while the size is compared and changed, so that of two growing writes the smaller does not cut off the larger.
    private readonly AsyncMutex _sizeMutex = new();

    // Something was written since the last flush on close. Set without a lock after a write, exchanged by a flush.
    private volatile bool _unflushed;

    /// <param name="backingId">What the kernel calls the file that it may read instead of asking; 0 if there is none.</param>
    internal FuseFileOperations(BlockDevice device, FuseFileAttributes attributes, bool writable, bool growable, int backingId = 0)
    {
        _backingId = backingId;
        _device = device;
        _attributes = attributes;
        Writable = writable;
        _growable = growable;
    }

    /// <summary>Clients may change content.</summary>
    internal bool Writable { get; }

    /// <summary>
    /// FUSE_OPEN. Direct_io, because the page cache of the mount would be stale against writers through other exports; or passthrough.
    /// </summary>
    internal int Open(FuseRequest request, in fuse_open_in open)
    {
        bool wantsWrite = (open.flags & LibcMount.O_ACCMODE) != LinuxConstants.O_RDONLY;
        if (wantsWrite && !Writable)
        {
            return request.ReplyStatus(Errno.EACCES);
        }

        return request.ReplyWith(_backingId > 0
            ? new fuse_open_out { open_flags = FOPEN_PASSTHROUGH, padding = (uint)_backingId }
            : new fuse_open_out { open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES });
    }

    /// <summary>FUSE_READ, cut at the end of the disk.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    internal async ValueTask<int> ReadAsync(FuseRequest request, fuse_read_in read)
    {
        if (read.size > FuseRequest.PayloadMax || read.offset > long.MaxValue)
        {
            return request.ReplyStatus(Errno.EINVAL);
        }

        int length = (int)Math.Clamp(_device.Size - (long)read.offset, 0, read.size);
        if (length > 0)
        {
            await _device.ReadAsync((long)read.offset, request.Payload(length));
        }

        return request.ReplyPayload(length);
    }

    /// <summary>FUSE_WRITE. Past the end a growable disk grows first; otherwise the part that fits is written, none of it is ENOSPC.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    internal async ValueTask<int> WriteAsync(FuseRequest request, fuse_write_in write)
    {
        if (!Writable)
        {
            return request.ReplyStatus(Errno.EACCES);
        }

        if (write.size > request.BodyLength - Unsafe.SizeOf<fuse_write_in>())
        {
            return request.ReplyStatus(Errno.EINVAL);
        }

        if (write.offset > (ulong)(long.MaxValue - write.size))
        {
            return request.ReplyStatus(Errno.EFBIG);
        }

        int length = (int)write.size;
        if ((long)write.offset + length > _device.Size)
        {
            length = (int)await MakeRoomAsync((long)write.offset, length);
            if (length == 0 && write.size > 0)
            {
                return request.ReplyStatus(Errno.ENOSPC);
            }
        }

        try
        {
            await _device.WriteAsync((long)write.offset, request.Payload(length));
        }
        finally
        {
            // A failed write may have changed a part.
            ContentChanged();
        }

        return request.ReplyWith(new fuse_write_out { size = (uint)length });
    }

    /// <summary>FUSE_GETATTR.</summary>
    internal int GetAttributes(FuseRequest request) => request.ReplyWith(_attributes.Get());

    /// <summary>FUSE_SETATTR: size, mode, owner and times; nothing is changed when a part is refused.</summary>
    internal async ValueTask<int> SetAttributesAsync(FuseRequest request, fuse_setattr_in change)
    {
        Errno refused = _attributes.Check(change);
        if (refused != Errno.None)
        {
            return request.ReplyStatus(refused);
        }

        if ((change.valid & FATTR_SIZE) != 0)
        {
            if (!Writable)
            {
                return request.ReplyStatus(Errno.EACCES);
            }

            if (change.size > long.MaxValue)
            {
                return request.ReplyStatus(Errno.EFBIG);
            }

            await ResizeAsync((long)change.size, mayShrink: true);
        }

        _attributes.Set(change);
        return request.ReplyWith(_attributes.Get());
    }

    /// <summary>FUSE_FLUSH, sent on every close: puts what was written onto stable storage.</summary>
    internal async ValueTask<int> FlushAsync(FuseRequest request)
    {
        if (_unflushed)
        {
            _unflushed = false;
            try
            {
                await _device.FlushAsync();
            }
            catch
            {
                _unflushed = true;
                throw;
            }
        }

        return request.ReplyStatus(Errno.None);
    }

    /// <summary>FUSE_FSYNC.</summary>
    internal async ValueTask<int> SyncAsync(FuseRequest request)
    {
        await _device.FlushAsync();
        return request.ReplyStatus(Errno.None);
    }

    /// <summary>FUSE_STATFS: a file system that is as large as the disk and full.</summary>
    internal int GetFileSystem(FuseRequest request) => request.ReplyWith(new fuse_statfs_out
    {
        st = new fuse_kstatfs
        {
            blocks = (ulong)Alignment.DivideUp(_device.Size, 4096),
            files = 1,
            bsize = 4096,
            frsize = 4096,
            namelen = 255,
        },
    });

    /// <summary>
    /// Makes [<paramref name="offset"/>, + <paramref name="length"/>) fit onto the disk by growing it where that is allowed.
    /// </summary>
    /// <returns>How much of the range lies on the disk now, from its start.</returns>
    internal async ValueTask<long> MakeRoomAsync(long offset, long length)
    {
        if (_growable)
        {
            await ResizeAsync(offset + length, mayShrink: false);
        }

        return Math.Clamp(_device.Size - offset, 0, length);
    }

    /// <summary>Notes that content changed: a close has to flush, the times move on.</summary>
    internal void ContentChanged()
    {
        if (!_unflushed)
        {
            _unflushed = true;
        }

        _attributes.ContentChanged();
    }

    private async ValueTask ResizeAsync(long size, bool mayShrink)
    {
        using AsyncMutex.Releaser held = await _sizeMutex.LockAsync();
        long current = _device.Size;
        if (size > current || (mayShrink && size < current))
        {
            await _device.ResizeAsync(size);
            ContentChanged();
        }
    }
}
