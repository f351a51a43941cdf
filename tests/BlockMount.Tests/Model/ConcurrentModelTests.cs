using BlockMount.Base;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Crash;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using BlockMount.TestSupport.Mutants;
using BlockMount.TestSupport.Simulation;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Model;

/// <summary>
/// Several clients on one device, every storage call delayed, all orders from a seed: each sector that a read returns holds a value that was current
/// at some instant of the read, and nothing older than what an earlier read saw (RELIABILITY H2, H9). Between phases the disk
/// is resized, and the image is closed, found clean, and opened again.
/// </summary>
[Trait("Suite", "Random")]
public sealed class ConcurrentModelTests(ITestOutputHelper output)
{
    private const int SizeMax = 32 << 10;
    private const int Clients = 6;
    private const int Phases = 3;
    private const int OperationsPerClient = 35;
    private const int FirstSeed = 60_000;
    private const int Runs = 80;

    private static readonly WorkloadMix s_mix = new()
    {
        { GuestOperationKind.Read, 300 },
        { GuestOperationKind.Write, 350 },
        { GuestOperationKind.WriteCompressed, 50 },
        { GuestOperationKind.Zero, 80 },
        { GuestOperationKind.ZeroMayUnmap, 80 },
        { GuestOperationKind.Discard, 90 },
        { GuestOperationKind.Flush, 60 },
        { GuestOperationKind.SnapshotCreate, 6 },
        { GuestOperationKind.SnapshotApply, 5 },
        { GuestOperationKind.SnapshotDelete, 5 },
    };

    [Fact]
    public void ConcurrentOperations_OverTheGeometryMatrix_AreLinearizable()
    {
        int runs = 0;
        foreach (int seed in TestBudget.Seeds(FirstSeed, Runs))
        {
            try
            {
                SimulationContext.Run(seed, context => RunAsync(context, seed));
                runs++;
            }
            catch (Exception error) when (error is ModelMismatchException or InvalidOperationException)
            {
                string replay = TestBudget.Replay(seed, nameof(ConcurrentOperations_OverTheGeometryMatrix_AreLinearizable));
                throw new ModelMismatchException($"{error.Message}\nreplay: {replay}", error);
            }
        }

        output.WriteLine(TestBudget.Count(runs * Phases * Clients * OperationsPerClient, "concurrent model operations", 50_000));
    }

    [Fact]
    public void EqualSeeds_GiveEqualTraces()
    {
        SimulationContext first = SimulationContext.Run(61_000, context => RunAsync(context, 61_000));
        SimulationContext second = SimulationContext.Run(61_000, context => RunAsync(context, 61_000));
        Assert.Equal((first.Trace, first.Steps), (second.Trace, second.Steps));
        Assert.True(first.Steps > 1000);
    }

    // Which proves that the harness would see a freed cluster handed out while an older read or write still uses it (I5).
    [Fact]
    public void FreedClustersReusedTooEarly_IsReported()
    {
        for (int seed = FirstSeed; seed < FirstSeed + (3 * Runs); seed++)
        {
            try
            {
                SimulationContext.Run(seed, context => RunAsync(context, seed, new LeasesProtectNothing()));
            }
            catch (Exception found) when (found is ModelMismatchException or BlockIOException)
            {
                // Also a compressed cluster that is no stream any more.
                output.WriteLine($"found by run {seed - FirstSeed + 1}: {found.Message}");
                SimulationContext.Run(seed, context => RunAsync(context, seed, new Mutant()));
                return;
            }
        }

        Assert.Fail("the harness does not find the mistake");
    }

    private static async Task RunAsync(SimulationContext context, int seed, Mutant? mutant = null)
    {
        Random random = new(seed);
        ImageGeometry geometry = ImageGeometry.Choose(random, SizeMax);
        TestChain chain = await TestChain.CreateAsync(geometry, seed);
        CrashWorkload workload = await CrashWorkload.OpenAsync(chain, SizeMax, context.PauseAsync, mutant);
        for (int phase = 0; phase < Phases; phase++)
        {
            await RunClientsAsync(workload, geometry, random);
            if (random.Next(2) == 0)
            {
                await workload.RunAsync(new GuestOperation(GuestOperationKind.Resize, Alignment.Up(random.Next(1, SizeMax), 512), 0, 0));
            }

            await workload.RunAsync(new GuestOperation(GuestOperationKind.Read, 0, SizeMax, 0));
            await workload.RunAsync(new GuestOperation(GuestOperationKind.Reopen, 0, 0, 0));
            CheckReport report = await ConsistencyCheck.RunAsync(workload.Top);
            if (!report.IsClean)
            {
                throw new ModelMismatchException($"after a clean close: {report}\n{geometry}");
            }

            await workload.RunAsync(new GuestOperation(GuestOperationKind.Read, 0, SizeMax, 0));
        }

        await workload.CloseAsync();
    }

    private static async Task RunClientsAsync(CrashWorkload workload, ImageGeometry geometry, Random random)
    {
        List<Task> clients = [];
        for (int i = 0; i < Clients; i++)
        {
            clients.Add(ClientAsync(workload, new(new Random(random.Next()), geometry.ClusterSize, workload.Size, workload.Size, 512, s_mix)));
        }

        await Task.WhenAll(clients);
    }

    private static async Task ClientAsync(CrashWorkload workload, WorkloadGenerator generator)
    {
        for (int i = 0; i < OperationsPerClient; i++)
        {
            await workload.RunAsync(generator.Next());
        }
    }
}
