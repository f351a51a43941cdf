using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using Xunit;

namespace BlockMount.Tests.Formats;

/// <summary>The driver over images with an external data file, plain and raw.</summary>
public sealed class DataFileDriverTests
{
    private const int Cluster = 4096;
    private const int Clusters = 8;
    private const int AutoclearOffset = 88;
    private const ulong Copied = 1UL << 63;

    private static readonly ImageGeometry s_plain = new() { ClusterBits = 12, Size = Clusters * Cluster, DataFile = DataFileKind.Plain };
    private static readonly ImageGeometry s_raw = s_plain with { DataFile = DataFileKind.Raw };

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Write_GoesToTheGuestOffset_AndCluster0IsAllocatedByCopiedAlone(bool subclusters)
    {
        ImageGeometry geometry = subclusters ? s_plain with { ClusterBits = 14, ExtendedL2 = true, Size = 4 << 14 } : s_plain;
        await using Files files = new(geometry);
        await using (Qcow2Driver driver = await files.OpenAsync())
        {
            await WriteAsync(driver, 0, 512);
            await WriteAsync(driver, geometry.ClusterSize + 512, 512);
        }

        Assert.All(files.Data.ToArray()[..512], value => Assert.Equal(0x77, value));
        Assert.All(files.Data.ToArray()[(geometry.ClusterSize + 512)..(geometry.ClusterSize + 1024)], value => Assert.Equal(0x77, value));
        Assert.Equal([Copied, Copied | (uint)geometry.ClusterSize], [files.Entry(0, geometry), files.Entry(1, geometry)]);
        await using Qcow2Driver again = await files.OpenAsync();
        Mapping mapping = await again.MapAsync(0, 512, MapPurpose.Transfer);
        Assert.Equal((MappingKind.Data, "data", 0), (mapping.Kind, mapping.File!.Name, mapping.FileOffset));
    }

    [Theory]
    // Compressed, and another place than the guest's.
    [InlineData(1UL << 62)]
    [InlineData(Copied | (3 * Cluster))]
    public async Task Entry_ThatADataFileCannotHave_IsAnError(ulong entry)
    {
        await using Files files = new(s_raw);
        await files.SetEntryAsync(2, entry);
        Qcow2Driver driver = await files.OpenAsync();
        var read = await Assert.ThrowsAsync<BlockIOException>(async () => await driver.MapAsync(2 * Cluster, 512, MapPurpose.Transfer));
        Assert.Equal(Errno.EIO, read.Errno);
        var write = await Assert.ThrowsAsync<BlockIOException>(async () => await driver.PrepareWriteAsync(2 * Cluster, 512));
        Assert.Equal(Errno.EIO, write.Errno);
        // The image is not written to any more, and closing it says so.
        await Assert.ThrowsAsync<BlockIOException>(async () => await driver.DisposeAsync());
    }

    [Fact]
    public async Task Open_WithoutItsDataFile_OrWithOneTooMany_IsRefused()
    {
        await using Files files = new(s_plain);
        await Assert.ThrowsAsync<ImageFormatException>(async () => await Qcow2Driver.OpenAsync(files.Image.Reopen(), new Qcow2OpenOptions()));
        MemoryFile plain = new("plain", readOnly: false, EmptyImage.Create(s_plain with { DataFile = DataFileKind.None }));
        await Assert.ThrowsAsync<ImageFormatException>(
            async () => await Qcow2Driver.OpenAsync(plain, new Qcow2OpenOptions { DataFile = files.Data.Reopen() }));
    }

    [Fact]
    public async Task LastCluster_WrittenInPart_DoesNotMakeTheFileLongerThanTheDisk()
    {
        ImageGeometry geometry = s_plain with { Size = (2 * Cluster) + 512 };
        await using Files files = new(geometry);
        await using Qcow2Driver driver = await files.OpenAsync();
        using MapLease lease = driver.EnterLease();
        WritePlan plan = await driver.PrepareWriteAsync(2 * Cluster, 100);
        Assert.Equal(512, plan.Allocation!.GuestLength);
        await driver.AbandonWriteAsync(plan.Allocation);
    }

    // In a data file there is no other place: what was given up is filled again only when nobody looks at it any more.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task WriteAfterGivingUp_OlderReadStillInFlight_WaitsForIt(bool discard)
    {
        await using Files files = new(s_plain);
        await using Qcow2Driver driver = await files.OpenAsync();
        await WriteAsync(driver, 0, Cluster);
        MapLease older = driver.EnterLease();
        if (discard)
        {
            await driver.DiscardAsync(0, Cluster);
        }
        else
        {
            Assert.True(await driver.ZeroAsync(0, Cluster, ZeroFlags.MayUnmap));
        }

        Assert.True((await driver.PrepareWriteAsync(0, Cluster)).MustWait);
        Task olderEnded = driver.OlderRequestsEndedAsync().AsTask();
        Assert.False(olderEnded.IsCompleted);
        older.Dispose();
        await olderEnded.WaitAsync(TimeSpan.FromSeconds(30));
        await WriteAsync(driver, 0, Cluster);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Raw_ZeroesAndDiscards_ReachTheFileAndLeaveTheEntries(bool discardToHost)
    {
        await using Files files = new(s_raw);
        await using (Qcow2Driver driver = await files.OpenAsync(discardToHost))
        {
            Assert.Equal(1, driver.ZeroUnit);
            await WriteAsync(driver, 0, 3 * Cluster);
            Assert.True(await driver.ZeroAsync(100, 1000, ZeroFlags.None));
            await driver.DiscardAsync(Cluster, Cluster);
        }

        byte[] data = files.Data.ToArray();
        Assert.All(data[100..1100], value => Assert.Equal(0, value));
        Assert.Equal((0x77, 0x77), (data[99], data[1100]));
        Assert.All(data[Cluster..(2 * Cluster)], value => Assert.Equal(discardToHost ? 0 : 0x77, value));
        Assert.Equal(Copied | Cluster, files.Entry(1, s_raw));
        Assert.Equal(2UL, files.Autoclear);
    }

    // With a backing file the data file cannot be the disk: the bit is not believed, and gone once somebody writes.
    [Fact]
    public async Task RawBit_OverABackingFile_IsCleared()
    {
        await using Files files = new(s_raw, "base");
        await using (Qcow2Driver driver = await files.OpenAsync())
        {
            Assert.Equal(Cluster, driver.ZeroUnit);
        }

        Assert.Equal(0UL, files.Autoclear);
    }

    [Fact]
    public async Task Raw_Resized_FileFollowsAndNewSpaceIsLinked()
    {
        await using Files files = new(s_raw);
        await using (Qcow2Driver driver = await files.OpenAsync())
        {
            await WriteAsync(driver, 0, Clusters * Cluster);
            await driver.ResizeAsync(3 * Cluster);
            Assert.Equal(3 * Cluster, files.Data.Length);
            await driver.ResizeAsync(6 * Cluster);
            Assert.Equal(6 * Cluster, files.Data.Length);
            Mapping mapping = await driver.MapAsync(3 * Cluster, 3 * Cluster, MapPurpose.Transfer);
            Assert.Equal((MappingKind.Data, 3 * Cluster), (mapping.Kind, mapping.Length));
        }

        Assert.All(files.Data.ToArray()[(3 * Cluster)..], value => Assert.Equal(0, value));
    }

    private static async Task WriteAsync(Qcow2Driver driver, long offset, int length)
    {
        using MapLease lease = driver.EnterLease();
        byte[] data = new byte[length];
        data.AsSpan().Fill(0x77);
        WritePlan plan = await driver.PrepareWriteAsync(offset, length);
        Assert.Equal(length, plan.Length);
        await plan.File.WriteAsync(plan.FileOffset, data);
        if (plan.Allocation is not null)
        {
            await driver.CommitWriteAsync(plan.Allocation);
        }
    }

    /// <summary>An image and its data file in memory.</summary>
    private sealed class Files(ImageGeometry geometry, string? backing = null) : IAsyncDisposable
    {
        public MemoryFile Image { get; } = new("image", readOnly: false, EmptyImage.Create(geometry, backing, backing is null ? null : "raw"));

        public MemoryFile Data { get; } = new("data", readOnly: false, geometry.DataFile == DataFileKind.Raw ? new byte[geometry.Size] : []);

        public ulong Autoclear => BinaryPrimitives.ReadUInt64BigEndian(Image.ToArray().AsSpan(AutoclearOffset));

        public async Task<Qcow2Driver> OpenAsync(bool discardToHost = true) => await Qcow2Driver.OpenAsync(
            Image.Reopen(), new Qcow2OpenOptions { DataFile = Data.Reopen(), DiscardToHost = discardToHost });

        public ulong Entry(int cluster, ImageGeometry of) => BinaryPrimitives.ReadUInt64BigEndian(
            Image.ToArray().AsSpan((int)Table(of.ClusterSize) + (cluster * of.L2EntrySize)));

        public async Task SetEntryAsync(int cluster, ulong entry)
        {
            byte[] changed = new byte[8];
            BinaryPrimitives.WriteUInt64BigEndian(changed, entry);
            await Image.WriteAsync(Table(geometry.ClusterSize) + (cluster * geometry.L2EntrySize), changed);
        }

        public async ValueTask DisposeAsync()
        {
            await Image.DisposeAsync();
            await Data.DisposeAsync();
        }

        private long Table(int clusterSize) =>
            (long)(BinaryPrimitives.ReadUInt64BigEndian(Image.ToArray().AsSpan(3 * clusterSize)) & 0x00ff_ffff_ffff_fe00);
    }
}
