using BlockMount.Block.Nodes;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Storage;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2;

/// <summary>Cached metadata that nobody uses is let go after the interval; what is used or dirty stays. And slices of any size hold the same.</summary>
public sealed class CacheCleanTests
{
    private const int Cluster = 1024;
    private const int Size = 1 << 20;
    private static readonly TimeSpan s_interval = TimeSpan.FromSeconds(600);

    [Fact]
    public async Task UnusedSlices_AreDropped_UsedAndDirtyOnesStay()
    {
        MemoryFile file = new("image", readOnly: false, new byte[8 * 512]);
        MetadataCache cache = new(file, sliceSize: 512, capacity: 8);
        await cache.GetAsync(0);
        await cache.GetAsync(512);
        await cache.GetForWriteAsync(1024);
        cache.DropUnused();
        // All three were used since the beginning.
        Assert.True(cache.TryGet(0, out _));
        cache.DropUnused();
        Assert.True(cache.TryGet(0, out _));
        Assert.False(cache.TryGet(512, out _));
        Assert.True(cache.TryGet(1024, out _));
        Assert.True(cache.HasDirty);
        cache.DropUnused();
        cache.DropUnused();
        Assert.False(cache.TryGet(0, out _));
        Assert.True(cache.TryGet(1024, out _));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Interval_PassingWithoutUse_FreesTheTables(bool on)
    {
        MemoryFile file = await MakeAsync();
        ManualTime time = new();
        CountingFile counted = new(file.Reopen(readOnly: true));
        Qcow2OpenOptions options = new() { ReadOnly = true, Time = time, CacheCleanInterval = on ? s_interval : TimeSpan.Zero };
        FormatNode node = new("node0", "image", await Qcow2Driver.OpenAsync(counted, options), backing: null);
        byte[] read = new byte[Cluster];
        await node.ReadAsync(0, read);
        int warm = await ReadsAsync(node, counted);
        time.Advance();
        Assert.Equal(warm, await ReadsAsync(node, counted));
        time.Advance();
        time.Advance();
        Assert.Equal(on ? warm + 1 : warm, await ReadsAsync(node, counted));
        await node.DisposeAsync();
        Assert.Equal(0, time.Timers);
    }

    // A change of the snapshots puts other tables in force, with caches of their own: one timer goes on, for these.
    [Fact]
    public async Task Interval_AfterASnapshotChange_FreesTheTablesInForce()
    {
        MemoryFile file = await MakeAsync();
        ManualTime time = new();
        CountingFile counted = new(file.Reopen());
        Qcow2Driver driver = await Qcow2Driver.OpenAsync(counted, new Qcow2OpenOptions { Time = time, CacheCleanInterval = s_interval });
        FormatNode node = new("node0", "image", driver, backing: null);
        await driver.Snapshots.CreateAsync("one", SnapshotModel.Moment);
        Assert.Equal(1, time.Timers);
        await ReadsAsync(node, counted);
        int warm = await ReadsAsync(node, counted);
        time.Advance();
        time.Advance();
        Assert.Equal(warm + 1, await ReadsAsync(node, counted));
        await node.DisposeAsync();
        Assert.Equal(0, time.Timers);
    }

    // Cleaning runs on a thread of its own, beside everything else.
    [Fact]
    public async Task Cleaning_BesideWrites_LosesNothing()
    {
        MemoryFile file = await MakeAsync();
        ManualTime time = new();
        byte[] model = new byte[Size];
        Random random = new(1);
        await using (FormatNode node = new("node0", "image", await Qcow2Driver.OpenAsync(file.Reopen(), new Qcow2OpenOptions { Time = time }), null))
        {
            await node.ReadAsync(0, model);
            using CancellationTokenSource end = new();
            Task cleaning = Task.Run(() =>
            {
                while (!end.IsCancellationRequested)
                {
                    time.Advance();
                }
            });
            for (int i = 0; i < 2000; i++)
            {
                byte[] data = new byte[1 + random.Next(3000)];
                random.NextBytes(data);
                int offset = random.Next(Size - data.Length);
                await node.WriteAsync(offset, data);
                data.CopyTo(model, offset);
                if (i % 100 == 0)
                {
                    await node.FlushAsync();
                }
            }

            await end.CancelAsync();
            await cleaning;
        }

        CheckReport report = await ConsistencyCheck.RunAsync(file.Reopen(readOnly: true));
        Assert.True(report.IsClean, report.ToString());
        await using FormatNode again = new(
            "node0", "image", await Qcow2Driver.OpenAsync(file.Reopen(readOnly: true), new Qcow2OpenOptions { ReadOnly = true }), backing: null);
        byte[] read = new byte[Size];
        await again.ReadAsync(0, read);
        Assert.Equal(model, read);
    }

    [Theory]
    [InlineData(512)]
    [InlineData(4096)]
    [InlineData(65536)]
    public async Task L2CacheEntrySize_AnySize_WritesTheSameImage(int entryBytes)
    {
        MemoryFile file = new("image", readOnly: false, EmptyImage.Create(new ImageGeometry { ClusterBits = 16, Size = 64 << 20 }));
        byte[] data = new byte[700_000];
        new Random(2).NextBytes(data);
        Qcow2OpenOptions options = new() { L2CacheEntryBytes = entryBytes, CacheBytes = 1 };
        await using (FormatNode node = new("node0", "image", await Qcow2Driver.OpenAsync(file.Reopen(), options), backing: null))
        {
            for (int i = 0; i < 40; i++)
            {
                await node.WriteAsync(i * 1_500_000, data);
            }
        }

        CheckReport report = await ConsistencyCheck.RunAsync(file.Reopen(readOnly: true));
        Assert.True(report.IsClean, report.ToString());
        await using FormatNode again = new(
            "node0", "image", await Qcow2Driver.OpenAsync(file.Reopen(readOnly: true), new Qcow2OpenOptions { ReadOnly = true }), backing: null);
        byte[] read = new byte[data.Length];
        await again.ReadAsync(39 * 1_500_000, read);
        Assert.Equal(data, read);
    }

    private static async Task<MemoryFile> MakeAsync()
    {
        MemoryFile file = new("image", readOnly: false, EmptyImage.Create(new ImageGeometry { ClusterBits = 10, Size = Size }));
        await using FormatNode node = new("node0", "image", await Qcow2Driver.OpenAsync(file.Reopen(), new Qcow2OpenOptions()), backing: null);
        await node.WriteAsync(0, new byte[20 * Cluster]);
        return file;
    }

    // Storage reads so far, this one of the first cluster included, less one for its data.
    private static async Task<int> ReadsAsync(FormatNode node, CountingFile file)
    {
        await node.ReadAsync(0, new byte[Cluster]);
        file.Reads--;
        return file.Reads;
    }

    /// <summary>A clock whose timers run when the test says so.</summary>
    private sealed class ManualTime : TimeProvider
    {
        private readonly List<ManualTimer> _timers = [];

        internal int Timers => _timers.Count;

        internal void Advance()
        {
            foreach (ManualTimer timer in _timers.ToArray())
            {
                timer.Run();
            }
        }

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            Assert.Equal(s_interval, dueTime);
            Assert.Equal(s_interval, period);
            ManualTimer timer = new(this, callback, state);
            _timers.Add(timer);
            return timer;
        }

        private sealed class ManualTimer(ManualTime owner, TimerCallback callback, object? state) : ITimer
        {
            internal void Run() => callback(state);

            public bool Change(TimeSpan dueTime, TimeSpan period) => throw new NotSupportedException();

            public void Dispose() => owner._timers.Remove(this);

            public ValueTask DisposeAsync()
            {
                Dispose();
                return ValueTask.CompletedTask;
            }
        }
    }

    private sealed class CountingFile(StorageFile inner) : StorageFile
    {
        internal int Reads { get; set; }

        public override string Name => inner.Name;

        public override bool ReadOnly => inner.ReadOnly;

        public override long Length => inner.Length;

        public override long AllocatedBytes => inner.AllocatedBytes;

        public override ValueTask FlushAsync() => inner.FlushAsync();

        public override ValueTask ResizeAsync(long length) => inner.ResizeAsync(length);

        public override ValueTask<FileExtent> MapAsync(long offset, long length) => inner.MapAsync(offset, length);

        public override ValueTask DisposeAsync() => inner.DisposeAsync();

        protected override ValueTask ReadCoreAsync(long offset, Memory<byte> buffer)
        {
            Reads++;
            return inner.ReadAsync(offset, buffer);
        }

        protected override ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer) => inner.WriteAsync(offset, buffer);

        protected override ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap) => inner.WriteZeroesAsync(offset, length, mayUnmap);

        protected override ValueTask<bool> PunchHoleCoreAsync(long offset, long length) => inner.PunchHoleAsync(offset, length);
    }
}
