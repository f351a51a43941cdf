using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Storage;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Crash;
using Xunit;

namespace BlockMount.Tests.Block.Graph;

/// <summary>What a power cut, or a failing file, leaves of a snapshot.</summary>
public sealed class SnapshotCrashTests
{
    private const int Size = 512 << 10;

    [Fact]
    public async Task SnapshotSync_PowerCutAfterwards_OverlayIsWholeAndUnflushedWritesOfBeforeAreThere()
    {
        StorageLog oldLog = new();
        StorageLog newLog = new(oldLog);
        long published = long.MaxValue;
        MemoryStorage files = new()
        {
            Wrap = (name, handle) => new RecordingFile(handle, name == "old" ? oldLog : newLog),
            Published = _ => published = oldLog.Tick(),
        };
        await using GraphFixture fixture = new(files);
        await fixture.CreateImageAsync("old", Size, clusterSize: 4096);
        byte[] initial = files["old"].ToArray();
        BlockDevice device = await fixture.ServeAsync("old");
        byte[] content = new byte[Size];
        new Random(1).NextBytes(content);
        await device.WriteAsync(0, content);
        await fixture.RunAsync(scope => SnapshotOperations.SnapshotSyncAsync(scope, new SnapshotSyncOptions { Device = "drive0", SnapshotFile = "new" }));
        long switched = oldLog.Tick();
        await device.WriteAsync(0, new byte[4096]);
        await device.FlushAsync();
        int overlays = await CheckEachAsync(newLog, [], published, image => CheckOverlayAsync(image));
        int bases = await CheckEachAsync(oldLog, initial, switched, image => CheckContentAsync(image, content));
        Assert.True(overlays > 0);
        Assert.True(bases > 0);
    }

    [Theory]
    [InlineData("old")]
    [InlineData("new")]
    public async Task SnapshotSync_NthCallFails_NothingHasChangedAndNothingIsLost(string failing)
    {
        for (int n = 1; ; n++)
        {
            bool armed = false;
            long calls = 0;
            MemoryStorage files = new()
            {
                Wrap = (name, handle) => name == failing ? new CountedFaults(handle, () => armed && ++calls == n) : handle,
            };
            GraphFixture fixture = new(files);
            await fixture.CreateImageAsync("old", Size, clusterSize: 4096);
            BlockDevice device = await fixture.ServeAsync("old");
            byte[] content = new byte[Size];
            new Random(n).NextBytes(content);
            await device.WriteAsync(0, content);
            armed = true;
            bool succeeded = await TryAsync(() => fixture.RunAsync(
                scope => SnapshotOperations.SnapshotSyncAsync(scope, new SnapshotSyncOptions { Device = "drive0", SnapshotFile = "new" })));
            armed = false;
            Assert.Equal(succeeded ? 2 : 1, files.Names.Count);
            Assert.Equal(succeeded, device.Root.Name != "node0");
            byte[] read = new byte[Size];
            await device.ReadAsync(0, read);
            Assert.True(read.AsSpan().SequenceEqual(content), $"call {n} of '{failing}' failed, and the disk reads something else");
            await device.WriteAsync(4096, new byte[4096]);
            _ = await TryAsync(async () => await fixture.DisposeAsync());
            Assert.Equal(0, files.OpenHandles);
            if (calls < n)
            {
                Assert.True(succeeded);
                Assert.True(n > 3, "there was nothing to fail");
                return;
            }
        }
    }

    private static async Task<bool> TryAsync(Func<Task> action)
    {
        try
        {
            await action();
            return true;
        }
        catch (BlockMountException)
        {
            return false;
        }
    }

    private static async Task<int> CheckEachAsync(StorageLog log, byte[] initial, long from, Func<MemoryFile, Task> check)
    {
        CrashImages images = new(log, initial);
        int count = 0;
        foreach (long cut in CrashImages.Cuts(log).Append(log.Now))
        {
            images.AdvanceTo(cut);
            for (int number = 0; cut >= from && number < 6; number++)
            {
                await check(images.Draw(number, TestBudget.RandomOf(1, cut)).Copy().ToFile());
                count++;
            }
        }

        return count;
    }

    private static async Task CheckOverlayAsync(MemoryFile file)
    {
        await using BlockDevice device = await OpenAsync(file);
        Assert.Equal(Size, device.Size);
        Assert.Equal(new BackingReference("old", "qcow2"), ((FormatNode)device.Root).BackingReference);
    }

    private static async Task CheckContentAsync(MemoryFile file, byte[] content)
    {
        await using BlockDevice device = await OpenAsync(file);
        byte[] read = new byte[Size];
        await device.ReadAsync(0, read);
        Assert.True(read.AsSpan().SequenceEqual(content), "a write of before the snapshot is lost, though a flush after it succeeded");
    }

    private static async Task<BlockDevice> OpenAsync(MemoryFile file) => new(
        "crashed", new FormatNode("crashed", "crashed", await BlockMount.Formats.Qcow2.Qcow2Driver.OpenAsync(file.Reopen(readOnly: true), new() { ReadOnly = true }), null), readOnly: true);

    /// <summary>Calls fail when a test says so.</summary>
    private sealed class CountedFaults(MemoryFile inner, Func<bool> fails) : StorageFile
    {
        public override string Name => inner.Name;

        public override bool ReadOnly => inner.ReadOnly;

        public override long Length => inner.Length;

        public override long AllocatedBytes => inner.AllocatedBytes;

        public override ValueTask FlushAsync() => Try("flush", inner.FlushAsync);

        public override ValueTask ResizeAsync(long length) => Try("resize", () => inner.ResizeAsync(length));

        public override ValueTask<FileExtent> MapAsync(long offset, long length) => inner.MapAsync(offset, length);

        public override ValueTask DisposeAsync() => inner.DisposeAsync();

        protected override ValueTask ReadCoreAsync(long offset, Memory<byte> buffer) => Try("read", () => inner.ReadAsync(offset, buffer));

        protected override ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer) => Try("write", () => inner.WriteAsync(offset, buffer));

        protected override ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap) =>
            Try("zero", () => inner.WriteZeroesAsync(offset, length, mayUnmap));

        protected override ValueTask<bool> PunchHoleCoreAsync(long offset, long length) => inner.PunchHoleAsync(offset, length);

        private ValueTask Try(string what, Func<ValueTask> call) =>
            fails() ? ValueTask.FromException(new BlockIOException(Errno.EIO, $"{what} of '{Name}'")) : call();
    }
}
