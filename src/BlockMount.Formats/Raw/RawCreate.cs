using BlockMount.Base;
using BlockMount.Storage;

namespace BlockMount.Formats.Raw;

/// <summary>Makes new raw images.</summary>
public static class RawCreate
{
    private const int SectorSize = 512;

    /// <summary>The size that an image asked for with <paramref name="size"/> bytes gets: whole sectors.</summary>
    /// <exception cref="ImageFormatException">Negative or too large.</exception>
    public static long RoundedSize(long size) => size is >= 0 and <= long.MaxValue - SectorSize
        ? Alignment.Up(size, SectorSize)
        : throw new ImageFormatException($"Invalid image size {size}: must be between 0 and {long.MaxValue - SectorSize} bytes");

    /// <summary>Makes <paramref name="file"/>, which is new and empty, a disk of zeros. Flushes. Does not close the file.</summary>
    /// <exception cref="ImageFormatException">The size or preallocation mode is not possible; nothing was changed.</exception>
    public static async ValueTask CreateAsync(StorageFile file, long size, Preallocation preallocation)
    {
        if (preallocation == Preallocation.Metadata)
        {
            throw new ImageFormatException("Preallocation mode 'metadata' is not possible with raw", "Use off, falloc or full");
        }

        long rounded = RoundedSize(size);
        await file.ResizeAsync(rounded);
        await PreallocationFill.RunAsync(file, preallocation, 0, rounded);
        await file.FlushAsync();
    }
}
