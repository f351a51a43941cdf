using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using BlockMount.TestSupport.Mutants;

namespace BlockMount.Tests.Model;

/// <summary>What the sequential model test does with one seed.</summary>
internal static class ModelWorkload
{
    internal const int SizeMax = 192 << 10;
    internal const int FirstSeed = 1000;

    /// <summary>Seeds of a normal run of the tests.</summary>
    internal const int Runs = 520;

    private const int OperationsPerRun = 2000;

    private static readonly WorkloadMix s_mix = new()
    {
        { GuestOperationKind.Read, 250 },
        { GuestOperationKind.Write, 280 },
        { GuestOperationKind.WriteCompressed, 70 },
        { GuestOperationKind.Zero, 80 },
        { GuestOperationKind.ZeroMayUnmap, 80 },
        { GuestOperationKind.Discard, 100 },
        { GuestOperationKind.Flush, 60 },
        { GuestOperationKind.Resize, 12 },
        { GuestOperationKind.Reopen, 8 },
        { GuestOperationKind.SnapshotCreate, 6 },
        { GuestOperationKind.SnapshotApply, 5 },
        { GuestOperationKind.SnapshotDelete, 5 },
    };

    internal static (ImageGeometry Geometry, List<GuestOperation> Workload) Make(int seed)
    {
        Random random = new(seed);
        ImageGeometry geometry = ImageGeometry.Choose(random, SizeMax / 2);
        return (geometry, Make(random, geometry, SizeMax, OperationsPerRun));
    }

    internal static List<GuestOperation> Make(Random random, ImageGeometry geometry, int sizeMax, int operations)
    {
        WorkloadGenerator generator = new(random, geometry.ClusterSize, geometry.Size, sizeMax, granularity: 1, s_mix);
        return generator.Take(operations);
    }

    internal static async ValueTask<bool> FailsAsync(
        ImageGeometry geometry, int seed, IReadOnlyList<GuestOperation> workload, Mutant? mutant = null) =>
        await FailureAsync(geometry, seed, workload, mutant) is not null;

    /// <summary>What the harness reports; null for nothing.</summary>
    internal static async ValueTask<string?> FailureAsync(
        ImageGeometry geometry, int seed, IReadOnlyList<GuestOperation> workload, Mutant? mutant)
    {
        try
        {
            await ModelRun.RunAsync(geometry, seed, workload, SizeMax, mutant);
            return null;
        }
        catch (ModelMismatchException error)
        {
            return error.Message;
        }
    }
}
