using System.Numerics;
using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Base.Interop;

namespace BlockMount.Storage;

/// <summary>What O_DIRECT asks for on one file, in bytes: of file offset and length, and of the memory's address.</summary>
internal readonly record struct DirectAlignment(int Offset, int Memory)
{
    private const int SmallestSector = 512;

    /// <summary>
    /// Asks the kernel (statx, Linux 6.1), then the device, then tries: a file system refuses an unaligned direct read
    /// with EINVAL. In doubt a page, which satisfies every device. <paramref name="fd"/> is open with O_DIRECT.
    /// </summary>
    public static DirectAlignment Query(int fd, StatxBuffer status)
    {
        if ((status.Mask & FileStatus.STATX_DIOALIGN) != 0 && status.DirectOffsetAlignment != 0)
        {
            return new DirectAlignment(Usable(status.DirectOffsetAlignment), Usable(status.DirectMemoryAlignment));
        }

        int size = AlignedBuffer.PageSize;
        if (status.FileType == FileStatus.S_IFBLK)
        {
            size = FileStatus.GetSectorSize(fd, out int sector) == Errno.None ? Usable((uint)sector) : size;
        }
        else if (status.Size >= SmallestSector && CanRead(fd, SmallestSector))
        {
            size = SmallestSector;
        }

        return new DirectAlignment(size, size);
    }

    private static int Usable(uint alignment) =>
        BitOperations.IsPow2(alignment) ? (int)Math.Clamp(alignment, SmallestSector, 1 << 20) : AlignedBuffer.PageSize;

    private static unsafe bool CanRead(int fd, int length)
    {
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(AlignedBuffer.PageSize);
        try
        {
            // The address is moved off the page boundary too, to learn about memory as well.
            return Libc.pread(fd, buffer.Pointer + length, (nuint)length, 0) == length;
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }
}
