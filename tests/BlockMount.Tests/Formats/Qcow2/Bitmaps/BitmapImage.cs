using System.Numerics;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Bitmaps;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;

namespace BlockMount.Tests.Formats.Qcow2.Bitmaps;

/// <summary>Small images for tests of persistent bitmaps, and short ways to look at them.</summary>
internal static class BitmapImage
{
    internal const int GranularityBits = 9;

    /// <summary>An empty version 3 image in memory.</summary>
    internal static MemoryFile Create(int clusterBits = 9, long size = 64 << 10, int refcountOrder = 4) =>
        new("top", readOnly: false, EmptyImage.Create(new ImageGeometry { ClusterBits = clusterBits, Size = size, RefcountOrder = refcountOrder }));

    /// <summary>Opens for writing.</summary>
    internal static async ValueTask<Qcow2Driver> OpenAsync(StorageFile file) => await Qcow2Driver.OpenAsync(file, new Qcow2OpenOptions { CacheBytes = 1 });

    /// <summary>Bits that follow from a seed: runs of zeros, of ones, and noise.</summary>
    internal static byte[] Bits(long diskSize, int seed, int granularityBits = GranularityBits)
    {
        Random random = new(seed);
        long bitCount = StoredBitmap.BitsFor(diskSize, granularityBits);
        byte[] bits = new byte[(bitCount + 7) / 8];
        for (int start = 0; start < bits.Length; start += 128)
        {
            Span<byte> block = bits.AsSpan(start, Math.Min(128, bits.Length - start));
            int kind = random.Next(3);
            if (kind == 1)
            {
                block.Fill(0xff);
            }
            else if (kind == 2)
            {
                random.NextBytes(block);
            }
        }

        Trim(bits, bitCount);
        return bits;
    }

    /// <summary>Clears what lies behind the last bit.</summary>
    internal static void Trim(Span<byte> bits, long bitCount)
    {
        if (bitCount % 8 != 0)
        {
            bits[(int)(bitCount / 8)] &= (byte)((1 << (int)(bitCount % 8)) - 1);
        }
    }

    /// <summary>A source that hands out <paramref name="bits"/>.</summary>
    internal static BitmapSource Source(byte[] bits) => (offset, bytes) =>
    {
        bits.AsSpan((int)offset, bytes.Length).CopyTo(bytes.Span);
        return ValueTask.CompletedTask;
    };

    /// <summary>The bitmaps as the file lists them.</summary>
    internal static async ValueTask<BitmapDirectory> ListAsync(StorageFile file) =>
        await BitmapDirectory.LoadAsync(file, await Qcow2HeaderReader.LoadAsync(file));

    /// <summary>All bytes of a bitmap.</summary>
    internal static async ValueTask<byte[]> ReadAsync(StorageFile file, StoredBitmap bitmap)
    {
        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file);
        byte[] bits = new byte[StoredBitmap.BytesFor(header.Size, bitmap.GranularityBits)];
        if (bits.Length > 0)
        {
            await new BitmapReader(file, header.ClusterSize, bitmap).ReadAsync(0, bits);
        }

        return bits;
    }

    /// <summary>Name, flags and number of set bits of each bitmap, for comparison.</summary>
    internal static async ValueTask<string> DescribeAsync(MemoryFile file)
    {
        StorageFile handle = file.Reopen(readOnly: true);
        List<string> words = [];
        foreach (StoredBitmap bitmap in (await ListAsync(handle)).Bitmaps)
        {
            int set = bitmap.IsConsistent ? (await ReadAsync(handle, bitmap)).Sum(b => BitOperations.PopCount(b)) : -1;
            words.Add($"{bitmap.Name}:{(bitmap.IsAuto ? "auto" : "off")}:{(bitmap.IsInUse ? "in-use" : "ok")}:{set}");
        }

        return string.Join(' ', words);
    }

    /// <summary>Writes guest bytes through the plan of the driver, as the node above does.</summary>
    internal static async ValueTask WriteGuestAsync(Qcow2Driver driver, long offset, byte[] data)
    {
        using MapLease lease = driver.EnterLease();
        WritePlan plan = await driver.PrepareWriteAsync(offset, data.Length);
        await plan.File.WriteAsync(plan.FileOffset, data);
        if (plan.Allocation is { } allocation)
        {
            await driver.CommitWriteAsync(allocation);
        }
    }
}
