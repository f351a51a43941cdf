using BlockMount.Bench.Loads;
using BlockMount.Bench.Results;

namespace BlockMount.Tests.Bench;

/// <summary>Made-up figures.</summary>
internal static class BenchSamples
{
    /// <summary>A sample whose other figures follow from its IOPS.</summary>
    public static Sample At(double iops, double? cpu = 5) =>
        new(new FioResult(iops, iops * 4096, P50: 1e6 / iops, P99: 2e6 / iops, P999: 3e6 / iops, Requests: (long)iops), cpu);

    /// <summary>Every load measured twice: BlockMount at 60,000 and 80,000 IOPS, QEMU at 10,000, the others at 20,000.</summary>
    public static BenchRun Run(params Contender[] contenders)
    {
        Measurements measurements = new();
        foreach (LoadGroup group in WorkloadTable.Groups)
        {
            foreach (Load load in group.Loads.Where(load => measurements.Rounds(load, Contender.BlockMount) == 0))
            {
                foreach (Contender contender in group.Contenders(load, contenders.Contains(Contender.NewerQemu)).Where(contenders.Contains))
                {
                    Add(measurements, load, contender);
                }
            }
        }

        return new BenchRun
        {
            Rows = WorkloadTable.Rows,
            Measurements = measurements,
            Limits = [new LimitFigure("Start", "ms", new Dictionary<Contender, double> { [Contender.BlockMount] = 101.4, [Contender.Qemu] = 7 }, 200, 100)],
            Contenders = contenders,
            Failures = new Failures(),
        };
    }

    private static void Add(Measurements measurements, Load load, Contender contender)
    {
        double[] rounds = contender switch
        {
            Contender.BlockMount => [60_000, 80_000],
            Contender.Qemu => [10_000, 10_000],
            _ => [20_000, 20_000],
        };
        foreach (double iops in rounds)
        {
            measurements.Add(load, contender, At(iops, contender == Contender.NativeFile ? null : 5));
        }
    }
}
