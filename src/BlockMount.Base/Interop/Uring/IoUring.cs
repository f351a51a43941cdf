using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace BlockMount.Base.Interop.Uring;

/// <summary>
/// One io_uring: a queue of requests to the kernel and one of completions, both shared with it (io_uring(7)). Owns the descriptor and the mappings.
/// Not thread-safe: one thread fills, submits and reaps; where IORING_SETUP_SINGLE_ISSUER is used it is the thread that created the ring. Allocates
/// nothing after construction.
/// </summary>
public sealed unsafe class IoUring : IDisposable
{
    // Fixed after construction.
    private readonly int _sqeShift;
    private readonly uint _sqMask;
    private readonly uint _sqEntries;
    private readonly uint _cqMask;
    private readonly uint* _sqHead;
    private readonly uint* _sqTail;
    private readonly uint* _cqHead;
    private readonly uint* _cqTail;
    private readonly io_uring_cqe* _cqes;
    private readonly nuint _ringBytes;
    private readonly nuint _sqeBytes;

    private int _fd;
    private byte* _ring;
    private byte* _sqes;

    // Next entry to fill, and how far the kernel was told.
    private uint _tail;
    private uint _submitted;

    private IoUring(int fd, in io_uring_params parameters, byte* ring, nuint ringBytes, byte* sqes, nuint sqeBytes)
    {
        _fd = fd;
        _ring = ring;
        _ringBytes = ringBytes;
        _sqes = sqes;
        _sqeBytes = sqeBytes;
        _sqeShift = (parameters.flags & IoUringConstants.IORING_SETUP_SQE128) != 0 ? 7 : 6;
        _sqEntries = parameters.sq_entries;
        _sqHead = (uint*)(ring + parameters.sq_off.head);
        _sqTail = (uint*)(ring + parameters.sq_off.tail);
        _sqMask = *(uint*)(ring + parameters.sq_off.ring_mask);
        _cqHead = (uint*)(ring + parameters.cq_off.head);
        _cqTail = (uint*)(ring + parameters.cq_off.tail);
        _cqMask = *(uint*)(ring + parameters.cq_off.ring_mask);
        _cqes = (io_uring_cqe*)(ring + parameters.cq_off.cqes);
        _tail = _submitted = *_sqTail;

        // Entries are used in their order, so that the indirection never changes.
        uint* array = (uint*)(ring + parameters.sq_off.array);
        for (uint i = 0; i < _sqEntries; i++)
        {
            array[i] = i;
        }
    }

    // The first use resolves the function behind it, which may change errno: not after a failed call.
    static IoUring() => _ = Libc.LastErrno;

    /// <summary>Entries that <see cref="Submit"/> has not handed over yet.</summary>
    public uint Unsubmitted => _tail - _submitted;

    /// <summary>Completions that wait to be reaped.</summary>
    public uint Completed => Volatile.Read(ref *_cqTail) - *_cqHead;

    /// <summary>Makes a ring for at least <paramref name="entries"/> requests at a time.</summary>
    /// <param name="flags">IORING_SETUP_ flags.</param>
    /// <param name="errno">Why not: ENOSYS or EPERM where io_uring is switched off, EINVAL where the kernel does not know a flag.</param>
    /// <returns>Null on failure.</returns>
    public static IoUring? TryCreate(uint entries, uint flags, out Errno errno)
    {
        io_uring_params parameters = new() { flags = flags };
        int fd = (int)LibcUring.io_uring_setup(LibcUring.SYS_io_uring_setup, entries, &parameters);
        if (fd < 0)
        {
            errno = Libc.LastErrno;
            return null;
        }

        // Both together since Linux 5.4 and 5.5, which is older than anything else that is needed here.
        const uint needed = IoUringConstants.IORING_FEAT_SINGLE_MMAP | IoUringConstants.IORING_FEAT_NODROP;
        errno = Errno.ENOSYS;
        IoUring? ring = (parameters.features & needed) == needed ? TryMap(fd, parameters, out errno) : null;
        if (ring is null)
        {
            _ = Libc.close(fd);
        }

        return ring;
    }

    /// <summary>
    /// The next free entry, zeroed; fill it before the next call. Null if as many as the ring has are not submitted yet.
    /// </summary>
    public io_uring_sqe* TryGetEntry()
    {
        if (_tail - Volatile.Read(ref *_sqHead) >= _sqEntries)
        {
            return null;
        }

        byte* entry = _sqes + ((_tail & _sqMask) << _sqeShift);
        Unsafe.InitBlockUnaligned(entry, 0, 1u << _sqeShift);
        _tail++;
        return (io_uring_sqe*)entry;
    }

    /// <summary>Hands the filled entries to the kernel and waits for <paramref name="waitFor"/> completions (0: does not wait).</summary>
    /// <returns>None; EINTR when a signal came first; EBUSY or EAGAIN when completions must be reaped before.</returns>
    public Errno Submit(uint waitFor)
    {
        Volatile.Write(ref *_sqTail, _tail);
        // GETEVENTS also without waiting: where task work is deferred, completions appear in no other way.
        long count = LibcUring.io_uring_enter(
            LibcUring.SYS_io_uring_enter, _fd, _tail - _submitted, waitFor, IoUringConstants.IORING_ENTER_GETEVENTS, null, 0);
        if (count >= 0)
        {
            _submitted += (uint)count;
            return Errno.None;
        }

        Errno errno = Libc.LastErrno;
        // A signal while waiting comes after the entries were taken.
        _submitted = Volatile.Read(ref *_sqHead);
        return errno;
    }

    /// <summary>Takes the oldest completion; false if there is none.</summary>
    public bool TryReap(out io_uring_cqe completion)
    {
        uint head = *_cqHead;
        if (head == Volatile.Read(ref *_cqTail))
        {
            completion = default;
            return false;
        }

        completion = _cqes[head & _cqMask];
        Volatile.Write(ref *_cqHead, head + 1);
        return true;
    }

    /// <summary>Closes the ring: requests under way are cancelled by the kernel, perhaps after this returns. Safe to call twice.</summary>
    public void Dispose()
    {
        int fd = Interlocked.Exchange(ref _fd, -1);
        if (fd >= 0)
        {
            Unmap(ref _sqes, _sqeBytes);
            Unmap(ref _ring, _ringBytes);
            _ = Libc.close(fd);
        }
    }

    private static IoUring? TryMap(int fd, in io_uring_params parameters, out Errno errno)
    {
        nuint submission = parameters.sq_off.array + (parameters.sq_entries * sizeof(uint));
        nuint completion = parameters.cq_off.cqes + (parameters.cq_entries * (nuint)sizeof(io_uring_cqe));
        nuint ringBytes = Math.Max(submission, completion);
        nuint sqeBytes = parameters.sq_entries * (nuint)((parameters.flags & IoUringConstants.IORING_SETUP_SQE128) != 0 ? 128 : 64);
        byte* ring = Map(fd, ringBytes, IoUringConstants.IORING_OFF_SQ_RING, out errno);
        if (ring == null)
        {
            return null;
        }

        byte* sqes = Map(fd, sqeBytes, IoUringConstants.IORING_OFF_SQES, out errno);
        if (sqes == null)
        {
            Unmap(ref ring, ringBytes);
            return null;
        }

        return new IoUring(fd, parameters, ring, ringBytes, sqes, sqeBytes);
    }

    private static byte* Map(int fd, nuint length, long offset, out Errno errno)
    {
        void* address = LibcUring.mmap(
            null, length, LibcUring.PROT_READ | LibcUring.PROT_WRITE, LibcUring.MAP_SHARED | LibcUring.MAP_POPULATE, fd, offset);
        errno = (nint)address == -1 ? Libc.LastErrno : Errno.None;
        return errno == Errno.None ? (byte*)address : null;
    }

    private static void Unmap(ref byte* address, nuint length)
    {
        if (address != null)
        {
            int result = LibcUring.munmap(address, length);
            Debug.Assert(result == 0);
            address = null;
        }
    }
}
