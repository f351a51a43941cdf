using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Block.Devices;
using BlockMount.Exports.Fuse.Abi;
using static BlockMount.Exports.Fuse.Abi.FuseFlags;

namespace BlockMount.Exports.Fuse;

/// <summary>Owner, permission bits and times of the file shown. They live as long as the mount. Any thread.</summary>
internal sealed class FuseFileAttributes
{
    private const uint WriteBits = 0b010_010_010;
    private const uint GroupAndOtherBits = 0b000_111_111;

    // Asking for the allocation may cost a system call.
    private static readonly TimeSpan s_allocationAge = TimeSpan.FromMilliseconds(100);

    // Fixed.
    private readonly BlockDevice _device;
    private readonly TimeProvider _time;
    private readonly bool _writable;
    private readonly bool _admitsOthers;

    private readonly Lock _gate = new();

    // Guarded by _gate.
    private uint _mode;
    private uint _uid;
    private uint _gid;
    private UnixTime _atime;
    private UnixTime _mtime;
    private UnixTime _ctime;
    private long _allocatedBytes;
    private long _allocationTimestamp;
    private bool _allocationKnown;

    // Set by every request that changes content, without the lock; taken into the times when somebody asks.
    private volatile bool _contentChanged;

    /// <param name="admitsOthers">The mount has allow_other, so owner and mode may be given away (FEATURES X24).</param>
    internal FuseFileAttributes(BlockDevice device, FuseExportOptions options, bool writable, bool admitsOthers, TimeProvider time)
    {
        _device = device;
        _time = time;
        _writable = writable;
        _admitsOthers = admitsOthers;
        _mode = options.Mode ?? (writable ? 0b110_000_000u : 0b100_000_000u);
        _uid = options.UserId ?? LibcMount.geteuid();
        _gid = options.GroupId ?? LibcMount.getegid();
        _atime = _mtime = _ctime = Now();
    }

    /// <summary>Notes that content or size changed: the times move on.</summary>
    internal void ContentChanged()
    {
        // A plain store would bounce the cache line between the workers.
        if (!_contentChanged)
        {
            _contentChanged = true;
        }
    }

    /// <summary>The answer to GETATTR. Zero validity: the size is right at once after a resize through another export.</summary>
    internal fuse_attr_out Get()
    {
        lock (_gate)
        {
            TakeChangeLocked();
            return new fuse_attr_out { attr = BuildLocked() };
        }
    }

    /// <summary>Why the change of mode or owner in <paramref name="change"/> is refused, or <see cref="Errno.None"/>.</summary>
    internal Errno Check(in fuse_setattr_in change)
    {
        if ((change.valid & FATTR_MODE) != 0)
        {
            if (!_writable && (change.mode & WriteBits) != 0)
            {
                return Errno.EROFS;
            }

            if (!_admitsOthers && (change.mode & GroupAndOtherBits) != 0)
            {
                return Errno.EPERM;
            }
        }

        bool changesOwner = (change.valid & (FATTR_UID | FATTR_GID)) != 0;
        return changesOwner && !_admitsOthers ? Errno.EPERM : Errno.None;
    }

    /// <summary>Applies what <see cref="Check"/> has passed: mode, owner and times. The size is not this type's business.</summary>
    internal void Set(in fuse_setattr_in change)
    {
        lock (_gate)
        {
            TakeChangeLocked();
            _mode = (change.valid & FATTR_MODE) != 0 ? change.mode & ~LibcMount.S_IFMT : _mode;
            _uid = (change.valid & FATTR_UID) != 0 ? change.uid : _uid;
            _gid = (change.valid & FATTR_GID) != 0 ? change.gid : _gid;
            SetTimesLocked(change);
        }
    }

    private void SetTimesLocked(in fuse_setattr_in change)
    {
        UnixTime now = Now();
        if ((change.valid & FATTR_ATIME) != 0)
        {
            _atime = (change.valid & FATTR_ATIME_NOW) != 0 ? now : new UnixTime(change.atime, change.atimensec);
        }

        if ((change.valid & FATTR_MTIME) != 0)
        {
            _mtime = (change.valid & FATTR_MTIME_NOW) != 0 ? now : new UnixTime(change.mtime, change.mtimensec);
        }

        _ctime = (change.valid & FATTR_CTIME) != 0 ? new UnixTime(change.ctime, change.ctimensec) : now;
    }

    private void TakeChangeLocked()
    {
        if (_contentChanged)
        {
            _contentChanged = false;
            _allocationKnown = false;
            _mtime = _ctime = Now();
        }
    }

    private fuse_attr BuildLocked()
    {
        if (!_allocationKnown || _time.GetElapsedTime(_allocationTimestamp) > s_allocationAge)
        {
            _allocatedBytes = _device.Root.AllocatedBytes;
            _allocationTimestamp = _time.GetTimestamp();
            _allocationKnown = true;
        }

        return new fuse_attr
        {
            ino = FUSE_ROOT_ID,
            size = (ulong)_device.Size,
            blocks = (ulong)Alignment.DivideUp(_allocatedBytes, 512),
            atime = _atime.Seconds,
            atimensec = _atime.Nanoseconds,
            mtime = _mtime.Seconds,
            mtimensec = _mtime.Nanoseconds,
            ctime = _ctime.Seconds,
            ctimensec = _ctime.Nanoseconds,
            mode = LibcMount.S_IFREG | _mode,
            nlink = 1,
            uid = _uid,
            gid = _gid,
            blksize = 4096,
        };
    }

    private UnixTime Now()
    {
        DateTimeOffset now = _time.GetUtcNow();
        return new UnixTime((ulong)now.ToUnixTimeSeconds(), (uint)(now.Ticks % TimeSpan.TicksPerSecond) * 100);
    }

    // As on the wire: seconds since 1970 in two's complement.
    private readonly record struct UnixTime(ulong Seconds, uint Nanoseconds);
}
