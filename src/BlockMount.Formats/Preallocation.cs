using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Storage;

namespace BlockMount.Formats;

/// <summary>How much of a new image, or of the new part of a grown one, gets its space at once.</summary>
public enum Preallocation
{
    /// <summary>Nothing: space is taken by the first write.</summary>
    Off,

    /// <summary>qcow2: tables point to all clusters, the clusters are a hole of the host file.</summary>
    Metadata,

    /// <summary>As Metadata, and the host file's space is reserved without being written.</summary>
    Falloc,

    /// <summary>As Metadata, and zeros are written everywhere.</summary>
    Full,
}

/// <summary>Gives new space of images its place in the host file.</summary>
public static class PreallocationFill
{
    private const int StepBytes = 1 << 20;

    /// <summary>
    /// Makes [<paramref name="offset"/>, + <paramref name="length"/>) hold zeros in the way of <paramref name="mode"/>. The
    /// range reads as zeros already.
    /// </summary>
    public static async ValueTask RunAsync(StorageFile file, Preallocation mode, long offset, long length)
    {
        switch (mode)
        {
            case Preallocation.Falloc when length > 0:
                await file.WriteZeroesAsync(offset, length, mayUnmap: false);
                break;
            case Preallocation.Full when length > 0:
                await WriteZerosAsync(file, offset, length);
                break;
            default:
                break;
        }
    }

    /// <summary>Refuses preallocation where a disk of <paramref name="oldSize"/> bytes does not grow.</summary>
    public static void CheckGrows(Preallocation mode, long oldSize, long newSize, string name)
    {
        if (mode != Preallocation.Off && newSize < oldSize)
        {
            throw new BlockIOException(Errno.EINVAL, $"resize of '{name}': preallocation can only be used for growing");
        }
    }

    private static async ValueTask WriteZerosAsync(StorageFile file, long offset, long length)
    {
        AlignedBuffer zeros = AlignedBufferPool.Shared.Rent(StepBytes);
        try
        {
            zeros.GetSpan().Clear();
            while (length > 0)
            {
                int step = (int)Math.Min(length, StepBytes);
                await file.WriteAsync(offset, zeros.Memory[..step]);
                offset += step;
                length -= step;
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(zeros);
        }
    }
}
