using BlockMount.Formats.Qcow2.Check;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Crash;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using BlockMount.TestSupport.Simulation;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Model;

/// <summary>
/// Several clients on one device, every storage call delayed, all orders from a seed: each sector that a read returns holds a value that was current
/// at some instant of the read, and nothing older than what an earlier read saw (RELIABILITY H2, H9). The closed image is clean.
/// </summary>
public sealed class ConcurrentModelTests(ITestOutputHelper output)
{
    private const int SizeMax = 32 << 10;
    private const int Clients = 6;
    private const int OperationsPerClient = 100;

    // Read, Write, Zero, ZeroMayUnmap, Discard, Flush, Resize, Reopen.
    private static readonly int[] s_weights = [300, 350, 80, 80, 90, 60, 0, 0];

    [Fact]
    public void ConcurrentOperations_OverTheGeometryMatrix_AreLinearizable()
    {
        int runs = 0;
        foreach (int seed in TestBudget.Seeds(60_000, 80))
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

        output.WriteLine($"{runs * Clients * OperationsPerClient} operations");
    }

    [Fact]
    public void EqualSeeds_GiveEqualTraces()
    {
        SimulationContext first = SimulationContext.Run(61_000, context => RunAsync(context, 61_000));
        SimulationContext second = SimulationContext.Run(61_000, context => RunAsync(context, 61_000));
        Assert.Equal((first.Trace, first.Steps), (second.Trace, second.Steps));
        Assert.True(first.Steps > 1000);
    }

    private static async Task RunAsync(SimulationContext context, int seed)
    {
        Random random = new(seed);
        ImageGeometry geometry = ImageGeometry.Choose(random, SizeMax);
        TestChain chain = await TestChain.CreateAsync(geometry, seed);
        CrashWorkload workload = await CrashWorkload.OpenAsync(chain, SizeMax, context.PauseAsync);
        List<Task> clients = [];
        for (int i = 0; i < Clients; i++)
        {
            clients.Add(ClientAsync(workload, new(new Random(random.Next()), geometry.ClusterSize, geometry.Size, geometry.Size, 512, s_weights)));
        }

        await Task.WhenAll(clients);
        await workload.RunAsync(new GuestOperation(GuestOperationKind.Read, 0, (int)geometry.Size, 0));
        await workload.CloseAsync();
        CheckReport report = await ConsistencyCheck.RunAsync(workload.Top);
        if (!report.IsClean)
        {
            throw new ModelMismatchException($"after a clean close: {report}\n{geometry}");
        }
    }

    private static async Task ClientAsync(CrashWorkload workload, WorkloadGenerator generator)
    {
        for (int i = 0; i < OperationsPerClient; i++)
        {
            await workload.RunAsync(generator.Next());
        }
    }
}
