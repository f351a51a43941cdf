using BlockMount.Base;
using BlockMount.Base.Interop;

namespace BlockMount.Storage;

/// <summary>
/// Owns the descriptors of one open file and makes its blocking calls: EINTR is retried, short transfers are continued,
/// failures become <see cref="BlockIOException"/> with file and numbers. Keeps no other state. Thread-safe until disposal.
/// </summary>
internal sealed unsafe class PosixHandle : IDisposable
{
    private int _fd;
    private int _bufferedFd;

    /// <param name="bufferedFd">A second descriptor of the same file without O_DIRECT, or the same one.</param>
    public PosixHandle(int fd, int bufferedFd, string name, bool isBlockDevice)
    {
        _fd = fd;
        _bufferedFd = bufferedFd;
        Name = name;
        IsBlockDevice = isBlockDevice;
    }

    /// <summary>The path as the user gave it.</summary>
    public string Name { get; }

    /// <summary>True for a block device, false for a regular file.</summary>
    public bool IsBlockDevice { get; }

    /// <summary>The descriptor that carries the locks, and O_DIRECT if asked for; -1 after disposal.</summary>
    public int Fd => Volatile.Read(ref _fd);

    /// <summary>A descriptor that goes through the page cache.</summary>
    public int BufferedFd => Volatile.Read(ref _bufferedFd);

    /// <summary>
    /// Reads what the page cache holds and never waits for a disk. Zeros past the end of the file.
    /// </summary>
    /// <param name="supported">False if the file system cannot answer such reads at all.</param>
    /// <returns>How many bytes at the start of <paramref name="buffer"/> are done; the rest needs a read that may wait.</returns>
    public int ReadCached(long offset, Span<byte> buffer, out bool supported)
    {
        supported = true;
        int done = 0;
        fixed (byte* start = buffer)
        {
            while (done < buffer.Length)
            {
                IoVec vector = new() { Base = start + done, Length = (nuint)(buffer.Length - done) };
                nint count = Libc.preadv2(Fd, &vector, 1, offset + done, LinuxConstants.RWF_NOWAIT);
                if (count > 0)
                {
                    done += (int)count;
                    continue;
                }

                if (count == 0)
                {
                    buffer[done..].Clear();
                    return buffer.Length;
                }

                Errno errno = Libc.LastErrno;
                if (errno != Errno.EINTR)
                {
                    // EAGAIN: not cached. Real errors come again, and are reported, on the way that may wait.
                    supported = errno is not (Errno.EOPNOTSUPP or Errno.ENOSYS or Errno.EINVAL);
                    return done;
                }
            }
        }

        return done;
    }

    /// <summary>Fills the buffer through the page cache; zeros past the end of the file.</summary>
    public void Read(long offset, Span<byte> buffer)
    {
        int done = 0;
        fixed (byte* start = buffer)
        {
            while (done < buffer.Length)
            {
                nint count = Libc.pread(BufferedFd, start + done, (nuint)(buffer.Length - done), offset + done);
                if (count == 0)
                {
                    buffer[done..].Clear();
                    return;
                }

                if (count > 0)
                {
                    done += (int)count;
                }
                else
                {
                    ThrowUnlessInterrupted("read", offset + done, buffer.Length - done);
                }
            }
        }
    }

    /// <summary>Writes the whole buffer into the page cache.</summary>
    public void Write(long offset, ReadOnlySpan<byte> buffer) => Write(BufferedFd, offset, buffer);

    /// <summary>
    /// Reads with O_DIRECT; offset, length and memory are aligned. Zeros past the end of the file, where the kernel cuts the
    /// transfer short at a byte that need not be aligned.
    /// </summary>
    public void ReadDirect(long offset, Span<byte> buffer, int alignment)
    {
        int done = 0;
        fixed (byte* start = buffer)
        {
            while (done < buffer.Length)
            {
                nint count = Libc.pread(Fd, start + done, (nuint)(buffer.Length - done), offset + done);
                if (count < 0)
                {
                    ThrowUnlessInterrupted("direct read", offset + done, buffer.Length - done);
                    continue;
                }

                done += (int)count;
                if (count == 0 || !Alignment.IsAligned(done, alignment))
                {
                    buffer[done..].Clear();
                    return;
                }
            }
        }
    }

    /// <summary>Writes with O_DIRECT; offset, length and memory are aligned.</summary>
    public void WriteDirect(long offset, ReadOnlySpan<byte> buffer) => Write(Fd, offset, buffer);

    /// <summary>fdatasync(2) without the poisoning that the caller adds.</summary>
    public void Flush()
    {
        while (Libc.fdatasync(Fd) != 0)
        {
            Errno errno = Libc.LastErrno;
            if (errno != Errno.EINTR)
            {
                throw new BlockIOException(errno, $"flush of '{Name}'");
            }
        }
    }

    /// <summary>Sets the file's length, to a byte.</summary>
    public void Truncate(long length)
    {
        while (Libc.ftruncate(Fd, length) != 0)
        {
            Errno errno = Libc.LastErrno;
            if (errno != Errno.EINTR)
            {
                throw new BlockIOException(errno, $"resize of '{Name}' to {length} bytes");
            }
        }
    }

    /// <summary>fallocate(2); false if the file system does not know the mode.</summary>
    public bool TryAllocate(int mode, long offset, long length)
    {
        while (Libc.fallocate(Fd, mode, offset, length) != 0)
        {
            Errno errno = Libc.LastErrno;
            if (errno is Errno.EOPNOTSUPP or Errno.ENOSYS or Errno.ENODEV)
            {
                return false;
            }

            if (errno != Errno.EINTR)
            {
                throw new BlockIOException(errno, $"fallocate (mode {mode}) of {length} bytes at {offset} in '{Name}'");
            }
        }

        return true;
    }

    /// <summary>The length of the file or device now, asked of the kernel.</summary>
    public long QueryLength()
    {
        Errno errno;
        long length;
        if (IsBlockDevice)
        {
            errno = FileStatus.GetDeviceSize(Fd, out length);
        }
        else
        {
            errno = FileStatus.Get(Fd, out StatxBuffer status);
            length = status.Size;
        }

        return errno == Errno.None ? length : throw new BlockIOException(errno, $"size of '{Name}'");
    }

    /// <summary>Bytes of disk space behind a regular file.</summary>
    public long QueryAllocatedBytes()
    {
        Errno errno = FileStatus.Get(Fd, out StatxBuffer status);
        return errno == Errno.None ? status.Blocks * 512 : throw new BlockIOException(errno, $"status of '{Name}'");
    }

    /// <summary>The error of a transfer, with file and numbers.</summary>
    public BlockIOException Failure(Errno errno, string operation, long offset, int length) =>
        new(errno, Describe(operation, offset, length));

    /// <summary>Closes the descriptors, which gives the locks back. Safe to call twice.</summary>
    public void Dispose()
    {
        int fd = Interlocked.Exchange(ref _fd, -1);
        int buffered = Interlocked.Exchange(ref _bufferedFd, -1);
        if (buffered >= 0 && buffered != fd)
        {
            _ = Libc.close(buffered);
        }

        // An error of close(2) is one of write-back, which the last flush had to find; the descriptor is gone either way.
        if (fd >= 0)
        {
            FileLocking.Release(fd);
            _ = Libc.close(fd);
        }
    }

    private void Write(int fd, long offset, ReadOnlySpan<byte> buffer)
    {
        int done = 0;
        fixed (byte* start = buffer)
        {
            while (done < buffer.Length)
            {
                nint count = Libc.pwrite(fd, start + done, (nuint)(buffer.Length - done), offset + done);
                if (count > 0)
                {
                    done += (int)count;
                }
                else if (count == 0)
                {
                    throw Failure(Errno.EIO, "write", offset + done, buffer.Length - done);
                }
                else
                {
                    ThrowUnlessInterrupted("write", offset + done, buffer.Length - done);
                }
            }
        }
    }

    private void ThrowUnlessInterrupted(string operation, long offset, int length)
    {
        Errno errno = Libc.LastErrno;
        if (errno != Errno.EINTR)
        {
            throw Failure(errno, operation, offset, length);
        }
    }

    private string Describe(string operation, long offset, int length) =>
        $"{operation} of {length} bytes at {offset} {(operation == "write" ? "to" : "from")} '{Name}'";
}
