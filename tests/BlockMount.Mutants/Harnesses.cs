using BlockMount.Tests.FailNth;
using BlockMount.Tests.Model;
using BlockMount.Tests.PowerCut;
using BlockMount.Tests.Simulation;
using BlockMount.TestSupport.Crash;
using BlockMount.TestSupport.Model;
using BlockMount.TestSupport.Mutants;
using BlockMount.TestSupport.Simulation;

namespace BlockMount.Mutants;

/// <summary>One piece of a harness that can be run by itself, as one seed. Throws when it finds something.</summary>
internal sealed record HarnessCase(string Name, Func<Task> RunAsync);

/// <summary>The four harnesses, cut into the cases of a normal run of the tests, with the same seeds and in nearly the same order.</summary>
internal static class Harnesses
{
    internal static readonly string[] s_names = ["simulation", "model", "fail-nth", "power cut"];

    /// <summary>The cases of a harness.</summary>
    /// <param name="createMutant">A mistake from outside, for each run; null for none.</param>
    internal static IAsyncEnumerable<HarnessCase> Cases(string harness, Func<Mutant>? createMutant = null) => harness switch
    {
        "simulation" => Simulation(createMutant),
        "model" => Model(createMutant).ToAsyncEnumerable(),
        "fail-nth" => FailNth(createMutant).ToAsyncEnumerable(),
        "power cut" => PowerCut().ToAsyncEnumerable(),
        _ => throw new ArgumentException($"no harness is called '{harness}'"),
    };

    private static async IAsyncEnumerable<HarnessCase> Simulation(Func<Mutant>? createMutant)
    {
        List<SimulationImage> images = [];
        foreach (string name in SimulationMatrix.s_images)
        {
            images.Add(await SimulationMatrix.ImageAsync(name));
        }

        foreach (HarnessCase pair in Exhaustive(images, 2, faults: false, createMutant).Concat(Exhaustive(images, 2, faults: true, createMutant)))
        {
            yield return pair;
        }

        for (int seed = RandomSimulation.FirstSeed; seed < RandomSimulation.FirstSeed + RandomSimulation.Seeds; seed++)
        {
            int mine = seed;
            yield return new HarnessCase($"seed {mine}", () => RandomSimulation.RunSeedAsync(mine, createMutant));
        }

        // Last, because there are most of them.
        foreach (HarnessCase triple in Exhaustive(images[..2], 3, faults: false, createMutant))
        {
            yield return triple;
        }
    }

    private static IEnumerable<HarnessCase> Exhaustive(List<SimulationImage> images, int count, bool faults, Func<Mutant>? createMutant)
    {
        foreach (SimulationImage image in images)
        {
            foreach (GuestProgram[] programs in SimulationMatrix.Combinations(SimulationMatrix.Programs(image, count, faults), count))
            {
                yield return new HarnessCase(
                    $"{image.Name}: {string.Join('+', programs.Select(program => program.Name))}{(faults ? " with failing calls" : "")}",
                    () => VisitAsync(image, programs, faults, createMutant));
            }
        }
    }

    private static Task VisitAsync(SimulationImage image, GuestProgram[] programs, bool faults, Func<Mutant>? createMutant)
    {
        ExhaustiveSimulation simulation = new(image, schedulesMax: int.MaxValue, createMutant);
        if (faults)
        {
            simulation.VisitWithFaults(programs);
        }
        else
        {
            simulation.Visit(programs);
        }

        return Task.CompletedTask;
    }

    private static IEnumerable<HarnessCase> Model(Func<Mutant>? createMutant)
    {
        yield return new HarnessCase("footprint", () => FootprintRun.RunAsync(FootprintRun.FirstSeed, 25_000));
        for (int seed = ModelWorkload.FirstSeed; seed < ModelWorkload.FirstSeed + (ModelWorkload.Runs / 2); seed++)
        {
            int mine = seed;
            yield return new HarnessCase($"seed {mine}", () => RunModelAsync(mine, createMutant));
        }
    }

    private static async Task RunModelAsync(int seed, Func<Mutant>? createMutant)
    {
        (TestSupport.Images.ImageGeometry geometry, List<GuestOperation> workload) = ModelWorkload.Make(seed);
        await ModelRun.RunAsync(geometry, seed, workload, ModelWorkload.SizeMax, createMutant?.Invoke());
    }

    private static IEnumerable<HarnessCase> FailNth(Func<Mutant>? createMutant) => FailNthMatrix.s_operations.Select(
        named => new HarnessCase(named.Name, () => FailNthMatrix.FailEveryCallAsync(named.Operation, createMutant)));

    private static IEnumerable<HarnessCase> PowerCut()
    {
        foreach (int seed in Enumerable.Range(PowerCutRun.FirstSequentialSeed, PowerCutRun.SequentialRuns))
        {
            yield return new HarnessCase($"seed {seed}", async () => await JudgeAsync(await PowerCutRun.SequentialAsync(seed)));
        }

        foreach (int seed in Enumerable.Range(PowerCutRun.FirstConcurrentSeed, PowerCutRun.ConcurrentRuns))
        {
            yield return new HarnessCase($"seed {seed}", () => JudgeAsync(PowerCutRun.Concurrent(seed)));
        }
    }

    private static async Task JudgeAsync(PowerCutRun run)
    {
        (_, CrashVerdict verdict) = await run.JudgeAsync();
        if (!verdict.IsGood)
        {
            throw new ModelMismatchException($"{verdict.Fault}: {verdict.Description}");
        }
    }
}
