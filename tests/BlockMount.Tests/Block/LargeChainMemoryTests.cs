using System.Buffers.Binary;
using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Storage;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Block;

/// <summary>
/// What is in memory after random reads all over 1 TiB at depth 64, which could use 8 GiB of tables: the budget, and hardly more. All of the heap
/// is measured, so that nothing is forgotten that nobody accounts for.
/// </summary>
[Collection("Allocations")]
public sealed class LargeChainMemoryTests(ITestOutputHelper output) : IDisposable
{
    private const int Depth = 64;
    private const int Readers = 8;
    private const long MiB = 1 << 20;

    private readonly ScratchFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(64, 15_000)]
    [InlineData(16, 5_000)]
    public async Task RandomReads_FillTheBudgetAndStayInIt(int budgetMiB, int reads)
    {
        string top = LargeDisk.WriteChain(_folder, Depth);
        long before = GC.GetTotalMemory(forceFullCollection: true);
        ChainOpenOptions options = new() { MetadataCacheBytes = budgetMiB * MiB };
        FormatNode node = (FormatNode)await new ChainOpener(PosixStorage.Instance, new OpenPolicy()).OpenAsync(top, options);
        await using BlockDevice device = new("disk0", node, readOnly: false);
        await Task.WhenAll(Enumerable.Range(0, Readers).Select(reader => Task.Run(() => ReadAsync(device, new Random(reader), reads / Readers))));
        await ReadMarksAsync(device);

        // The index may take half. Half of the rest is for the active layer, and the other half shared by 63 images: all of it is full by now.
        long index = node.Index!.AllocatedBytes;
        long heap = GC.GetTotalMemory(forceFullCollection: true) - before;
        output.WriteLine($"budget {budgetMiB} MiB: index {index} bytes, all of the heap {heap} bytes");
        Assert.InRange(index, budgetMiB * MiB * 45 / 100, budgetMiB * MiB / 2);
        // The L1 tables are in memory besides, 16 KiB for each image, and a cached slice is an object that weighs something, too.
        Assert.InRange(heap, budgetMiB * MiB * 9 / 10, (budgetMiB * MiB * 17 / 16) + (Depth * (16 << 10)));
    }

    private static async Task ReadAsync(BlockDevice device, Random random, int count)
    {
        byte[] buffer = new byte[4096];
        for (int i = 0; i < count; i++)
        {
            await device.ReadAsync(random.NextInt64(LargeDisk.Size / buffer.Length) * buffer.Length, buffer);
        }
    }

    // All 64 images are asked for these.
    private static async Task ReadMarksAsync(BlockDevice device)
    {
        byte[] buffer = new byte[512];
        for (long offset = 0; offset < LargeDisk.Size; offset += LargeDisk.MarkEvery * LargeDisk.TableSpan)
        {
            await device.ReadAsync(offset, buffer);
            Assert.Equal(offset, BinaryPrimitives.ReadInt64BigEndian(buffer));
        }
    }
}
