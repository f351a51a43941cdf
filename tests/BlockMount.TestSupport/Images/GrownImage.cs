using System.Buffers.Binary;
using BlockMount.TestSupport.Model;

namespace BlockMount.TestSupport.Images;

/// <summary>An image whose refcount table has room for a few clusters more: the next writes make it grow, which in small images nothing else does.</summary>
public static class GrownImage
{
    // One cluster of table is 64 blocks of 64 counters: 4096 clusters of 512 bytes.
    private const int TableCovers = 2 << 20;
    private const int Size = TableCovers + (256 << 10);
    private const int RefcountTableClusters = 56;

    /// <summary>What makes the table grow, with changes before and after.</summary>
    public static readonly GuestOperation[] s_operations =
    [
        new(GuestOperationKind.Write, 1000, 700, 1),
        new(GuestOperationKind.Flush, 0, 0, 0),
        new(GuestOperationKind.Write, TableCovers - 4096, 24 << 10, 2),
        new(GuestOperationKind.Flush, 0, 0, 0),
        new(GuestOperationKind.Discard, 4096, 8192, 0),
        new(GuestOperationKind.Write, TableCovers + (64 << 10), 2048, 3),
    ];

    /// <summary>Makes the image: almost everything that the table can describe is in use.</summary>
    public static async ValueTask<TestChain> BeforeItsTableGrowsAsync(bool lazyRefcounts)
    {
        ImageGeometry geometry = new() { RefcountOrder = 6, Size = Size, LazyRefcounts = lazyRefcounts, TinyCache = false };
        TestChain chain = await TestChain.CreateAsync(geometry, seed: 1);
        TestDisk disk = await chain.OpenDiskAsync(chain.Top.Reopen());
        long offset = 0;
        for (int stamp = 1; chain.Top.Length < TableCovers - (12 << 10); stamp++)
        {
            await disk.ApplyAsync(new GuestOperation(GuestOperationKind.Write, offset, 4096, stamp));
            offset += 4096;
        }

        byte[] content = new byte[Size];
        await disk.Device.ReadAsync(0, content);
        await disk.DisposeAsync();
        return TestChain.Of(new MemoryFile("top", readOnly: false, chain.Top.Content), geometry, content);
    }

    /// <summary>Clusters of the refcount table of an image.</summary>
    public static int TableClusters(ReadOnlySpan<byte> image) => BinaryPrimitives.ReadInt32BigEndian(image[RefcountTableClusters..]);
}
