using System.Buffers.Binary;
using BlockMount.Block.Devices;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Crash;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using BlockMount.TestSupport.Simulation;

namespace BlockMount.Tests.PowerCut;

/// <summary>One workload and the states that a power cut during it may leave. Everything follows from the seed.</summary>
internal sealed class PowerCutRun
{
    internal const int FirstSequentialSeed = 10_000;
    internal const int FirstConcurrentSeed = 20_000;

    /// <summary>Seeds of a normal run of the tests.</summary>
    internal const int SequentialRuns = 170;

    /// <inheritdoc cref="SequentialRuns"/>
    internal const int ConcurrentRuns = 80;

    private const int SizeMax = 48 << 10;
    private const int OperationsPerRun = 40;
    private const int RandomStatesPerCut = 4;

    private static readonly WorkloadMix s_mix = new()
    {
        { GuestOperationKind.Read, 20 },
        { GuestOperationKind.Write, 320 },
        { GuestOperationKind.WriteCompressed, 80 },
        { GuestOperationKind.Zero, 90 },
        { GuestOperationKind.ZeroMayUnmap, 90 },
        { GuestOperationKind.Discard, 110 },
        { GuestOperationKind.Flush, 130 },
        { GuestOperationKind.Resize, 25 },
        { GuestOperationKind.Reopen, 10 },
        { GuestOperationKind.SnapshotCreate, 15 },
        { GuestOperationKind.SnapshotApply, 12 },
        { GuestOperationKind.SnapshotDelete, 12 },
    };

    private static readonly WorkloadMix s_concurrentMix = new()
    {
        { GuestOperationKind.Read, 200 },
        { GuestOperationKind.Write, 320 },
        { GuestOperationKind.WriteCompressed, 80 },
        { GuestOperationKind.Zero, 80 },
        { GuestOperationKind.ZeroMayUnmap, 80 },
        { GuestOperationKind.Discard, 90 },
        { GuestOperationKind.Flush, 110 },
        { GuestOperationKind.SnapshotCreate, 12 },
        { GuestOperationKind.SnapshotApply, 10 },
        { GuestOperationKind.SnapshotDelete, 10 },
    };

    private readonly int _seed;
    private readonly CrashWorkload _workload;

    private PowerCutRun(int seed, ImageGeometry geometry, TestChain chain, CrashWorkload workload)
    {
        _seed = seed;
        Geometry = geometry;
        Chain = chain;
        _workload = workload;
    }

    internal ImageGeometry Geometry { get; }

    internal TestChain Chain { get; }

    internal StorageLog Log => _workload.Log;

    /// <summary>The log of the data file; null if there is none.</summary>
    internal StorageLog? DataLog => _workload.DataLog;

    internal byte[] InitialFile => _workload.InitialFile;

    internal byte[] LastFile => _workload.Top.ToArray();

    /// <summary>One operation after the other.</summary>
    /// <param name="adapt">Changes the geometry that the seed chose; null leaves it.</param>
    internal static async ValueTask<PowerCutRun> SequentialAsync(int seed, Func<ImageGeometry, ImageGeometry>? adapt = null)
    {
        (ImageGeometry geometry, Random random) = Choose(seed);
        geometry = adapt?.Invoke(geometry) ?? geometry;
        WorkloadGenerator generator = new(random, geometry.ClusterSize, geometry.Size, SizeMax, granularity: 1, s_mix);
        return await OfAsync(seed, geometry, generator.Take(OperationsPerRun));
    }

    /// <summary>The given operations, one after the other, and a clean close.</summary>
    internal static async ValueTask<PowerCutRun> OfAsync(int seed, ImageGeometry geometry, IEnumerable<GuestOperation> operations)
    {
        TestChain chain = await TestChain.CreateAsync(geometry, seed);
        return await OnAsync(seed, chain, await CrashWorkload.OpenAsync(chain, SizeMax), operations);
    }

    /// <summary>The given operations, one after the other, on an image with a history, which may be large; its content counts as flushed.</summary>
    internal static async ValueTask<PowerCutRun> OnImageAsync(int seed, TestChain chain, IEnumerable<GuestOperation> operations) =>
        await OnAsync(seed, chain, await CrashWorkload.OpenAsync(chain, chain.Geometry.Size), operations);

    /// <summary>Random operations, one after the other, on an image with a history; its content counts as flushed.</summary>
    internal static async ValueTask<PowerCutRun> OnImageAsync(int seed, TestChain chain)
    {
        WorkloadGenerator generator = new(new Random(seed), chain.Geometry.ClusterSize, chain.Geometry.Size, SizeMax, granularity: 1, s_mix);
        CrashWorkload workload = await CrashWorkload.OpenAsync(chain, SizeMax);
        return await OnAsync(seed, chain, workload, generator.Take(OperationsPerRun));
    }

    /// <summary>Random operations on what an earlier power cut left; its content now counts as flushed.</summary>
    internal static async ValueTask<PowerCutRun> AfterCrashAsync(int seed, PowerCutRun earlier, CrashImage left)
    {
        MemoryFile top = left.ToFile();
        byte[] content = await ReadAllAsync(earlier.Chain, new MemoryFile("copy", readOnly: false, top.Content), left.ToDataFile());
        CrashWorkload workload = await CrashWorkload.OpenAsync(earlier.Chain, top, left.ToDataFile(), content, SizeMax);
        WorkloadGenerator generator = new(new Random(seed), earlier.Geometry.ClusterSize, content.Length, SizeMax, granularity: 1, s_mix);
        // Nobody keeps a model of the snapshots that are left; with them a version 2 image cannot be resized.
        bool mayResize = earlier.Geometry.Version > 2 || BinaryPrimitives.ReadInt32BigEndian(left.Bytes.AsSpan(Qcow2HeaderFields.SnapshotCount)) == 0;
        return await OnAsync(seed, earlier.Chain, workload, generator.Take(6).Where(operation => mayResize || operation.Kind != GuestOperationKind.Resize));
    }

    /// <summary>Four clients at once, every storage call delayed; the seed decides all orders.</summary>
    /// <param name="adapt">Changes the geometry that the seed chose; null leaves it.</param>
    internal static PowerCutRun Concurrent(int seed, int operationsPerClient = OperationsPerRun / 4, Func<ImageGeometry, ImageGeometry>? adapt = null)
    {
        PowerCutRun? run = null;
        SimulationContext.Run(seed, async context => run = await ConcurrentAsync(context, seed, operationsPerClient, adapt));
        return run!;
    }

    /// <summary>Judges the states of every cut; stops at the first bad one.</summary>
    /// <param name="flushIsLost">A lie of the disk, to prove the harness.</param>
    /// <param name="wanted">Stop only at this fault; null for any.</param>
    /// <param name="visit">Sees each good state before it is used up; may be null.</param>
    /// <returns>How many states were judged, and the first bad one.</returns>
    internal async ValueTask<(int States, CrashVerdict Verdict)> JudgeAsync(
        Func<StorageLogEntry, bool>? flushIsLost = null, CrashFault? wanted = null, Func<CrashImage, ValueTask>? visit = null)
    {
        CrashImages images = new(Log, InitialFile, flushIsLost);
        CrashImages? data = DataLog is null ? null : new(DataLog, _workload.InitialData, flushIsLost);
        int states = 0;
        foreach (long cut in DataLog is null ? CrashImages.Cuts(Log) : CrashImages.Cuts(Log).Union(CrashImages.Cuts(DataLog)).Order())
        {
            images.AdvanceTo(cut);
            data?.AdvanceTo(cut);
            // Systematic ones first: all, none, each one lost alone, each one kept alone; then random subsets.
            int count = images.PendingCount + (data?.PendingCount ?? 0) == 0 ? 1 : Math.Min(2 + (2 * images.PendingCount), 10) + RandomStatesPerCut;
            Random random = TestBudget.RandomOf(_seed, cut);
            for (int i = 0; i < count; i++)
            {
                int number = i < count - RandomStatesPerCut ? i : int.MaxValue;
                CrashImage image = images.Draw(number, random);
                if (data is not null)
                {
                    // The two files lose what they lose independently of each other.
                    CrashImage drawn = data.Draw(DataNumber(i), random);
                    image = image with { DataBytes = drawn.Bytes, DataLength = drawn.Length };
                }

                states++;
                if (visit is not null)
                {
                    await visit(image);
                }

                CrashVerdict verdict = await CrashJudge.JudgeAsync(Chain, _workload.Reference, image, cut);
                if (!verdict.IsGood && (wanted ?? verdict.Fault) == verdict.Fault)
                {
                    return (states, verdict with { Description = $"cut {cut}, state {i}: {verdict.Description}\nnot durable: {images.DescribePending()}" });
                }
            }
        }

        return (states, default);
    }

    /// <summary>The first flush of the data file that belongs to guest flush number <paramref name="guestFlush"/> (from 0).</summary>
    internal StorageLogEntry DataFlushOf(int guestFlush)
    {
        (long begin, long end) = _workload.Reference.Flushes[guestFlush];
        return DataLog!.Entries.First(entry => entry.Kind == StorageCalls.Flush && entry.Begin > begin && entry.End < end);
    }

    /// <summary>A storage flush that belongs to guest flush number <paramref name="guestFlush"/> (from 0); -1 is its last one.</summary>
    internal StorageLogEntry FlushOf(int guestFlush, int storageFlush)
    {
        (long begin, long end) = _workload.Reference.Flushes[guestFlush];
        StorageLogEntry[] flushes = [.. Log.Entries.Where(entry => entry.Kind == StorageCalls.Flush && entry.Begin > begin && entry.End < end)];
        return storageFlush < 0 ? flushes[^1] : flushes[storageFlush];
    }

    /// <summary>A message for a bad state.</summary>
    internal string Explain(CrashVerdict verdict, string testName) =>
        $"{verdict.Fault}: {verdict.Description}\n{Geometry}\nreplay: {TestBudget.Replay(_seed, testName)}";

    private static async ValueTask<PowerCutRun> OnAsync(int seed, TestChain chain, CrashWorkload workload, IEnumerable<GuestOperation> operations)
    {
        foreach (GuestOperation operation in operations)
        {
            await workload.RunAsync(operation);
        }

        await workload.CloseAsync();
        return new PowerCutRun(seed, chain.Geometry, chain, workload);
    }

    // With state 0 and 1 of the image: everything lost, nothing lost; with the others these two and subsets in turn.
    private static int DataNumber(int state) => state < 2 ? state : state % 3 == 2 ? int.MaxValue : state % 3;

    private static async ValueTask<byte[]> ReadAllAsync(TestChain chain, MemoryFile top, MemoryFile? data)
    {
        BlockDevice device = await chain.OpenAsync(top, data: data);
        byte[] content = new byte[device.Size];
        await device.ReadAsync(0, content);
        await device.DisposeAsync();
        return content;
    }

    private static (ImageGeometry Geometry, Random Random) Choose(int seed)
    {
        Random random = new(seed);
        return (ImageGeometry.Choose(random, SizeMax / 2), random);
    }

    private static async Task<PowerCutRun> ConcurrentAsync(SimulationContext context, int seed, int operationsPerClient, Func<ImageGeometry, ImageGeometry>? adapt)
    {
        (ImageGeometry geometry, Random random) = Choose(seed);
        geometry = adapt?.Invoke(geometry) ?? geometry;
        TestChain chain = await TestChain.CreateAsync(geometry, seed);
        CrashWorkload workload = await CrashWorkload.OpenAsync(chain, SizeMax, context.PauseAsync);
        List<Task> clients = [];
        for (int i = 0; i < 4; i++)
        {
            WorkloadGenerator generator = new(new Random(random.Next()), geometry.ClusterSize, geometry.Size, geometry.Size, granularity: 512, s_concurrentMix);
            clients.Add(ClientAsync(workload, generator, operationsPerClient, context));
        }

        await Task.WhenAll(clients);
        await workload.CloseAsync();
        return new PowerCutRun(seed, geometry, chain, workload);
    }

    private static async Task ClientAsync(CrashWorkload workload, WorkloadGenerator generator, int operations, SimulationContext context)
    {
        for (int i = 0; i < operations; i++)
        {
            await context.PauseAsync();
            await workload.RunAsync(generator.Next());
        }
    }
}
