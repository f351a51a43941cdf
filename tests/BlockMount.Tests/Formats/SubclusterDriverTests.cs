using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using Xunit;

namespace BlockMount.Tests.Formats;

/// <summary>Mappings, plans and commits of images with extended L2 entries: 32 subclusters of 512 bytes in each cluster.</summary>
public sealed class SubclusterDriverTests
{
    private const int Cluster = 16 << 10;
    private const int Sub = 512;

    private static readonly ImageGeometry s_geometry = new() { ClusterBits = 14, ExtendedL2 = true, Size = 8 * Cluster };

    [Fact]
    public async Task Write_ToPartOfACluster_AllocatesItsSubclustersOnly()
    {
        await using Qcow2Driver driver = await OpenAsync();
        WritePlan plan = await WriteAsync(driver, (3 * Sub) + 100, Sub);
        Assert.Equal(3 * Sub, plan.Allocation!.GuestOffset);
        Assert.Equal(2 * Sub, plan.Allocation.GuestLength);
        Assert.Equal((MappingKind.Backing, 3 * Sub), await KindAsync(driver, 0));
        Assert.Equal((MappingKind.Data, 2 * Sub), await KindAsync(driver, 3 * Sub));
        Assert.Equal((MappingKind.Backing, (8 * Cluster) - (5 * Sub)), await KindAsync(driver, 5 * Sub));
    }

    [Fact]
    public async Task Write_ToAnotherPartOfTheCluster_FillsTheSameHostCluster()
    {
        await using Qcow2Driver driver = await OpenAsync();
        WritePlan first = await WriteAsync(driver, 0, Sub);
        WritePlan second = await WriteAsync(driver, 7 * Sub, 2 * Sub);
        Assert.Equal(first.FileOffset + (7 * Sub), second.FileOffset);
        WritePlan across = await driver.PrepareWriteAsync(6 * Sub, 5 * Sub);
        // Data begins behind one subcluster: there the write goes on in place.
        Assert.Equal((Sub, Sub), (across.Length, across.Allocation!.GuestLength));
        await driver.AbandonWriteAsync(across.Allocation);
    }

    [Fact]
    public async Task Write_AcrossClusters_IsOneRunOfWholeSubclusters()
    {
        await using Qcow2Driver driver = await OpenAsync();
        WritePlan plan = await WriteAsync(driver, Cluster - Sub, Cluster + (2 * Sub));
        Assert.Equal((Cluster - Sub, Cluster + (2 * Sub)), (plan.Allocation!.GuestOffset, plan.Allocation.GuestLength));
        Assert.Equal((MappingKind.Data, Cluster + (2 * Sub)), await KindAsync(driver, Cluster - Sub));
    }

    [Theory]
    [InlineData(ZeroFlags.None)]
    [InlineData(ZeroFlags.MayUnmap)]
    public async Task Zero_PartOfACluster_ChangesItsSubclustersOnly(ZeroFlags flags)
    {
        await using Qcow2Driver driver = await OpenAsync();
        await WriteAsync(driver, 0, Cluster);
        Assert.Equal(Sub, driver.ZeroUnit);
        Assert.True(await driver.ZeroAsync(2 * Sub, 3 * Sub, flags));
        Assert.Equal((MappingKind.Data, 2 * Sub), await KindAsync(driver, 0));
        Assert.Equal((MappingKind.Zero, 3 * Sub), await KindAsync(driver, 2 * Sub));
        Assert.Equal((MappingKind.Data, 27 * Sub), await KindAsync(driver, 5 * Sub));
    }

    [Fact]
    public async Task Zero_OfTheLastSubclustersWithData_GivesTheHostClusterBack()
    {
        await using Qcow2Driver driver = await OpenAsync();
        await WriteAsync(driver, 0, 2 * Sub);
        Assert.True(await driver.ZeroAsync(0, 2 * Sub, ZeroFlags.MayUnmap));
        using MapLease lease = driver.EnterLease();
        Mapping mapping = await driver.MapAsync(0, Cluster, MapPurpose.Transfer);
        Assert.Null(mapping.File);
    }

    // The other subclusters may be written in place just now, so the cluster cannot go elsewhere; it must not be filled under an older write either.
    [Fact]
    public async Task WriteAfterZeroing_OlderWriteStillInFlight_WaitsForIt()
    {
        await using Qcow2Driver driver = await OpenAsync();
        WritePlan first = await WriteAsync(driver, 0, Cluster);
        MapLease older = driver.EnterLease();
        WritePlan late = await driver.PrepareWriteAsync(2 * Sub, Sub);
        Assert.Null(late.Allocation);
        Assert.True(await driver.ZeroAsync(2 * Sub, Sub, ZeroFlags.None));
        Assert.True((await driver.PrepareWriteAsync(2 * Sub, Sub)).MustWait);
        // Elsewhere nobody waits, not even beside it in place.
        Assert.False((await driver.PrepareWriteAsync(3 * Sub, Sub)).MustWait);
        Task olderEnded = driver.OlderRequestsEndedAsync().AsTask();
        Assert.False(olderEnded.IsCompleted);
        older.Dispose();
        await olderEnded.WaitAsync(TimeSpan.FromSeconds(30));
        WritePlan again = await WriteAsync(driver, 2 * Sub, Sub);
        Assert.Equal(first.FileOffset + (2 * Sub), again.FileOffset);
    }

    [Theory]
    [InlineData(0x0000_0001_0000_0001UL)]
    [InlineData(0x8000_0000_8000_0000UL)]
    public async Task Entry_DataAndZeroAtOnce_IsAnErrorThatNamesThePlace(ulong bitmap)
    {
        MemoryFile file = NewImage();
        await using (Qcow2Driver driver = await OpenAsync(file.Reopen()))
        {
            await WriteAsync(driver, Cluster, Cluster);
        }

        // The entry of guest cluster 1: the L2 table is the first cluster behind the L1 table's.
        byte[] image = file.ToArray();
        long table = BinaryPrimitives.ReadInt64BigEndian(image.AsSpan(3 * Cluster)) & 0x00ff_ffff_ffff_fe00;
        BinaryPrimitives.WriteUInt64BigEndian(image.AsSpan((int)table + 16 + 8), bitmap);
        Qcow2Driver damaged = await Qcow2Driver.OpenAsync(new MemoryFile("image", readOnly: false, image), new Qcow2OpenOptions());
        var read = await Assert.ThrowsAsync<BlockIOException>(async () => await damaged.MapAsync(Cluster, Sub, MapPurpose.Transfer));
        Assert.Equal(Errno.EIO, read.Errno);
        Assert.Contains("guest offset 0x4000", read.Message, StringComparison.Ordinal);
        var write = await Assert.ThrowsAsync<BlockIOException>(async () => await damaged.PrepareWriteAsync(Cluster, Sub));
        Assert.Equal(Errno.EIO, write.Errno);
        var zero = await Assert.ThrowsAsync<BlockIOException>(async () => await damaged.ZeroAsync(Cluster, Sub, ZeroFlags.None));
        Assert.Equal(Errno.EIO, zero.Errno);
        // The image is not written to any more, and closing it says so.
        await Assert.ThrowsAsync<BlockIOException>(async () => await damaged.DisposeAsync());
    }

    // 256 entries of 16 bytes in a slice, 1024 in a table: the entries around both boundaries lie where the specification says.
    [Theory]
    [InlineData(255)]
    [InlineData(1023)]
    [InlineData(4095)]
    public async Task Write_AroundTheEndOfASliceOrTable_IsFoundAgain(int cluster)
    {
        ImageGeometry geometry = s_geometry with { Size = 8192L * Cluster };
        MemoryFile file = new("image", readOnly: false, EmptyImage.Create(geometry));
        long offset = ((long)cluster * Cluster) + (31 * Sub);
        WritePlan before;
        WritePlan behind;
        await using (Qcow2Driver driver = await OpenAsync(file.Reopen()))
        {
            before = await WriteAsync(driver, offset, Sub);
            behind = await WriteAsync(driver, offset + Sub, Sub);
        }

        byte[] image = file.ToArray();
        long table = BinaryPrimitives.ReadInt64BigEndian(image.AsSpan((3 * Cluster) + (cluster / 1024 * 8))) & 0x00ff_ffff_ffff_fe00;
        Assert.Equal(0x8000_0000UL, BinaryPrimitives.ReadUInt64BigEndian(image.AsSpan((int)table + (cluster % 1024 * 16) + 8)));
        await using Qcow2Driver again = await OpenAsync(file.Reopen());
        foreach ((long guest, WritePlan plan) in new[] { (offset, before), (offset + Sub, behind) })
        {
            Mapping mapping = await again.MapAsync(guest, Sub, MapPurpose.Transfer);
            Assert.Equal((MappingKind.Data, plan.FileOffset), (mapping.Kind, mapping.FileOffset));
        }
    }

    private static MemoryFile NewImage() => new("image", readOnly: false, EmptyImage.Create(s_geometry));

    private static async Task<Qcow2Driver> OpenAsync(MemoryFile? file = null) => await Qcow2Driver.OpenAsync(file ?? NewImage(), new Qcow2OpenOptions());

    private static async Task<(MappingKind Kind, long Length)> KindAsync(Qcow2Driver driver, long offset)
    {
        using MapLease lease = driver.EnterLease();
        Mapping mapping = await driver.MapAsync(offset, driver.VirtualSize - offset, MapPurpose.Transfer);
        return (mapping.Kind, mapping.Length);
    }

    private static async Task<WritePlan> WriteAsync(Qcow2Driver driver, long offset, int length)
    {
        using MapLease lease = driver.EnterLease();
        WritePlan plan = await driver.PrepareWriteAsync(offset, length);
        Assert.Equal(length, plan.Length);
        await plan.File.WriteAsync(plan.FileOffset, new byte[length]);
        if (plan.Allocation is not null)
        {
            await driver.CommitWriteAsync(plan.Allocation);
        }

        return plan;
    }
}
