using System.Text;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Bitmaps;

/// <summary>What the format cannot store, told before anything is changed.</summary>
internal static class BitmapLimits
{
    /// <summary>Checks a new bitmap.</summary>
    /// <returns>The name as it is stored.</returns>
    /// <exception cref="ImageFormatException">Names the value and the limit.</exception>
    internal static byte[] CheckNew(string name, int granularityBits, long diskSize, Geometry geometry, string fileName)
    {
        if (geometry.Version < 3)
        {
            throw new ImageFormatException(
                $"Cannot store dirty bitmaps in qcow2 v2 files ('{fileName}')", $"Make it version 3: 'blockmount amend -o compat=1.1 {fileName}'");
        }

        byte[] bytes = Encoding.UTF8.GetBytes(name);
        if (bytes.Length is 0 or > Qcow2Limits.BitmapNameBytesMax)
        {
            throw new ImageFormatException($"The name of a bitmap has {bytes.Length} bytes, allowed are 1 to {Qcow2Limits.BitmapNameBytesMax}");
        }

        if (granularityBits is < Qcow2Limits.BitmapGranularityBitsMin or > Qcow2Limits.BitmapGranularityBitsMax)
        {
            throw new ImageFormatException(
                $"Granularity must be {1L << Qcow2Limits.BitmapGranularityBitsMin} to {1L << Qcow2Limits.BitmapGranularityBitsMax} bytes");
        }

        long bytesNeeded = StoredBitmap.BytesFor(diskSize, granularityBits);
        return bytesNeeded <= Qcow2Limits.BitmapBytesMax && geometry.ClustersFor(bytesNeeded) <= Qcow2Limits.BitmapTableEntriesMax
            ? bytes
            : throw new ImageFormatException(
                $"Bitmap '{name}' would need {bytesNeeded} bytes, more than {Qcow2Limits.BitmapBytesMax}", "Use a larger granularity");
    }

    /// <summary>Checks the length of a new directory.</summary>
    /// <exception cref="ImageFormatException">It is too long.</exception>
    internal static void CheckDirectory(ReadOnlySpan<byte> directory, string fileName)
    {
        if (directory.Length > Qcow2Limits.BitmapDirectoryBytesMax)
        {
            throw new ImageFormatException(
                $"Not enough space in the bitmap directory of '{fileName}': {directory.Length} bytes, at most {Qcow2Limits.BitmapDirectoryBytesMax} can be stored");
        }
    }
}
