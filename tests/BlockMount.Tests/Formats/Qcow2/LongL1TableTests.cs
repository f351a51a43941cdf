using BlockMount.Block.Nodes;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2;

/// <summary>
/// An L1 table that is longer than the space between two refcount blocks: its new place needs several blocks side by side, which no small image
/// reaches.
/// </summary>
public sealed class LongL1TableTests
{
    private const long SmallSize = 1 << 20;

    [Theory]
    // 512-byte clusters: a block of 64-bit refcounts covers 64 clusters, and 256 MiB need an L1 table of 128.
    [InlineData(64, 256L << 20)]
    [InlineData(32, 1L << 30)]
    public async Task Resize_L1TableLongerThanABlockCovers_KeepsDataAndRefcounts(int refcountBits, long size)
    {
        MemoryFile file = new("disk");
        await Qcow2Create.CreateAsync(file, new Qcow2CreateOptions { Size = SmallSize, ClusterSize = 512, RefcountBits = refcountBits });
        byte[] data = new byte[100_000];
        new Random(1).NextBytes(data);
        await using (FormatNode node = await OpenAsync(file))
        {
            await node.WriteAsync(1000, data);
            await node.ResizeAsync(size);
            await node.WriteAsync(size - data.Length, data);
        }

        CheckReport report = await ConsistencyCheck.RunAsync(file.Reopen(readOnly: true));
        Assert.True(report.IsClean, string.Join('\n', report.Findings));
        await using FormatNode again = await OpenAsync(file);
        byte[] read = new byte[data.Length];
        await again.ReadAsync(1000, read);
        Assert.Equal(data, read);
        await again.ReadAsync(size - data.Length, read);
        Assert.Equal(data, read);
    }

    private static async Task<FormatNode> OpenAsync(MemoryFile file) =>
        new("node0", file.Name, await Qcow2Driver.OpenAsync(file.Reopen(readOnly: false), new Qcow2OpenOptions()), backing: null);
}
