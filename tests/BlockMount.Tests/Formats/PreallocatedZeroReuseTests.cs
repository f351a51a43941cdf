using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using Xunit;

namespace BlockMount.Tests.Formats;

/// <summary>A zero cluster keeps its host cluster for the next write, unless an older write may still be on its way there (I5).</summary>
public sealed class PreallocatedZeroReuseTests
{
    private const int Cluster = 512;

    [Fact]
    public async Task WriteAfterZeroing_UsesThePreallocatedCluster()
    {
        await using Qcow2Driver driver = await OpenAsync();
        WritePlan first = await WriteAsync(driver);
        await ZeroAsync(driver);
        WritePlan second = await WriteAsync(driver);
        Assert.Equal(first.FileOffset, second.FileOffset);
    }

    [Fact]
    public async Task WriteAfterZeroing_OlderWriteStillInFlight_GetsAnotherCluster()
    {
        await using Qcow2Driver driver = await OpenAsync();
        await WriteAsync(driver);
        WritePlan late;
        using (MapLease older = driver.EnterLease())
        {
            late = await driver.PrepareWriteAsync(0, Cluster);
            Assert.Null(late.Allocation);
            await ZeroAsync(driver);
            WritePlan newer = await WriteAsync(driver);
            Assert.NotEqual(late.FileOffset, newer.FileOffset);
            // The older write arrives: nothing points to the place any more, and nobody else has it.
            await late.File.WriteAsync(late.FileOffset, new byte[Cluster]);
        }

        using MapLease lease = driver.EnterLease();
        Mapping mapping = await driver.MapAsync(0, Cluster, MapPurpose.Transfer);
        byte[] read = new byte[Cluster];
        await mapping.File!.ReadAsync(mapping.FileOffset, read);
        Assert.All(read, value => Assert.Equal(0x77, value));
    }

    private static async Task<Qcow2Driver> OpenAsync() => await Qcow2Driver.OpenAsync(
        new MemoryFile("image", readOnly: false, EmptyImage.Create(new ImageGeometry { Size = 8 * Cluster })), new Qcow2OpenOptions());

    private static async Task ZeroAsync(Qcow2Driver driver)
    {
        using MapLease lease = driver.EnterLease();
        Assert.True(await driver.ZeroAsync(0, Cluster, ZeroFlags.None));
    }

    private static async Task<WritePlan> WriteAsync(Qcow2Driver driver)
    {
        using MapLease lease = driver.EnterLease();
        WritePlan plan = await driver.PrepareWriteAsync(0, Cluster);
        byte[] data = new byte[Cluster];
        data.AsSpan().Fill(0x77);
        await plan.File.WriteAsync(plan.FileOffset, data);
        if (plan.Allocation is not null)
        {
            await driver.CommitWriteAsync(plan.Allocation);
        }

        return plan;
    }
}
