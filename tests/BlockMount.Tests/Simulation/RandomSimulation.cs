using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using BlockMount.TestSupport.Mutants;
using BlockMount.TestSupport.Simulation;

namespace BlockMount.Tests.Simulation;

/// <summary>Random schedules of more and larger programs than the exhaustive search can take. Everything follows from the seed.</summary>
internal static class RandomSimulation
{
    internal const int FirstSeed = 80_000;

    /// <summary>Seeds of a normal run.</summary>
    internal const int Seeds = 1200;

    /// <summary>Schedules of one seed: they share an image.</summary>
    internal const int SchedulesPerSeed = 25;

    private const int SizeMax = 16 << 10;
    private const int Programs = 4;
    private const int OperationsPerProgram = 3;
    private const int CallsToFailMax = 8;

    private static readonly WorkloadMix s_history = new()
    {
        { GuestOperationKind.Write, 5 },
        { GuestOperationKind.WriteCompressed, 2 },
        { GuestOperationKind.Zero, 2 },
        { GuestOperationKind.Discard, 2 },
        { GuestOperationKind.Flush, 1 },
    };

    private static readonly WorkloadMix s_mix = new()
    {
        { GuestOperationKind.Read, 25 },
        { GuestOperationKind.Write, 30 },
        { GuestOperationKind.WriteCompressed, 6 },
        { GuestOperationKind.Zero, 8 },
        { GuestOperationKind.ZeroMayUnmap, 8 },
        { GuestOperationKind.Discard, 12 },
        { GuestOperationKind.Flush, 10 },
        { GuestOperationKind.Resize, 2 },
        { GuestOperationKind.SnapshotCreate, 1 },
        { GuestOperationKind.SnapshotApply, 1 },
        { GuestOperationKind.SnapshotDelete, 1 },
    };

    /// <summary>Runs the schedules of one seed.</summary>
    /// <returns>How many faults were injected on the way.</returns>
    /// <exception cref="ModelMismatchException">With everything that is needed to repeat it, but the command.</exception>
    internal static async Task<int> RunSeedAsync(int seed, Func<Mutant>? createMutant = null)
    {
        Random random = new(seed);
        ImageGeometry geometry = ImageGeometry.Choose(random, SizeMax * 3 / 4);
        WorkloadGenerator history = new(random, geometry.ClusterSize, geometry.Size, geometry.Size, granularity: 512, s_history);
        SimulationImage image = await SimulationImage.PrepareAsync($"seed{seed}", geometry, warm: random.Next(2) == 0, history.Take(12));
        int faults = 0;
        for (int i = 0; i < SchedulesPerSeed; i++)
        {
            GuestProgram[] programs = [.. Enumerable.Range(0, Programs).Select(number => Program(number, geometry, random))];
            (int, int)? fault = random.Next(4) == 0 ? (random.Next(Programs), random.Next(1, CallsToFailMax)) : null;
            ScheduleChooser chooser = random.Next(2) == 0 ? new RandomChoices(random) : new LatencyChoices(random, new ManualTime());
            try
            {
                faults += SimulationRun.Run(image, programs, chooser, fault, createMutant?.Invoke()).FaultHit ? 1 : 0;
            }
            catch (ScheduleFailedException failure)
            {
                string operations = string.Join('\n', programs.Select(program => $"{program.Name}: {string.Join("; ", program.Operations)}"));
                throw new ModelMismatchException($"schedule {i} of seed {seed}: {failure.Message}\n{geometry}\n{operations}", failure);
            }
        }

        return faults;
    }

    private static GuestProgram Program(int number, ImageGeometry geometry, Random random)
    {
        WorkloadGenerator generator = new(new Random(random.Next()), geometry.ClusterSize, geometry.Size, SizeMax, granularity: 512, s_mix);
        return new GuestProgram($"client{number}", generator.Take(OperationsPerProgram));
    }
}
