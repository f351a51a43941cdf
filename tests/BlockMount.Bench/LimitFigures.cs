using BlockMount.Bench.Loads;
using BlockMount.Bench.Results;
using BlockMount.Bench.Servers;

namespace BlockMount.Bench;

/// <summary>Measures what has a limit of its own instead of a competitor: starting, opening, memory.</summary>
internal sealed class LimitFigures(BenchSettings settings, DiskImages images, ServerStarter servers, Failures failures)
{
    private const string Start = "Start, from exec to a mount that answers, 1 GiB";
    private const string OpenLarge = "Start, opening 1 TiB";
    private const string OpenRatio = "Start, opening 1 TiB against 1 GiB";
    private const string OpenDeep = "Start, opening a chain of 256";
    private const string Memory = "Memory (RSS), 1 TiB image at depth 64 under random load";

    /// <summary>Names of the figures, for the filter.</summary>
    public static IReadOnlyList<string> Names { get; } = [Start, OpenLarge, OpenRatio, OpenDeep, Memory];

    /// <summary>Seconds that the figures take, about.</summary>
    public double Estimate() => Names.Where(Wanted).Sum(name => name == Memory ? (settings.Seconds * 4) + 20 : settings.Rounds + 3);

    /// <summary>Measures those that are asked for; <paramref name="done"/> hears of each.</summary>
    public async Task<IReadOnlyList<LimitFigure>> MeasureAsync(Action<LimitFigure> done, CancellationToken stop)
    {
        List<LimitFigure> figures = [];
        void Add(LimitFigure figure)
        {
            figures.Add(figure);
            done(figure);
        }

        if (Wanted(Start) || Wanted(OpenLarge) || Wanted(OpenRatio))
        {
            foreach (LimitFigure figure in await OpeningBySizeAsync(stop))
            {
                Add(figure);
            }
        }

        if (Wanted(OpenDeep))
        {
            Opening deep = await OpeningAsync(OpenDeep, [await images.ChainAsync(256)], stop);
            // The goal is about opening alone; the whole start is more than that, so holding here is enough.
            Add(new LimitFigure(OpenDeep, "ms", deep.Medians(0), null, 250));
        }

        if (Wanted(Memory))
        {
            Add(new LimitFigure(Memory, "MiB", await ResidentAsync(stop), 200, 100));
        }

        return figures;
    }

    // A quick look leaves the large chains out: making them takes longer than measuring.
    private bool Wanted(string name) => settings.Wants(name) && (!settings.Quick || name == Start || settings.Filters.Count > 0);

    private async Task<IEnumerable<LimitFigure>> OpeningBySizeAsync(CancellationToken stop)
    {
        List<ImageFile> disks = [await images.FullAsync()];
        if (Wanted(OpenLarge) || Wanted(OpenRatio))
        {
            disks.Add(await images.LargeAsync());
        }

        Opening opening = await OpeningAsync(Start, disks, stop);
        List<LimitFigure> figures = [new(Start, "ms", opening.Medians(0), 200, 100)];
        if (disks.Count > 1)
        {
            figures.Add(new(OpenLarge, "ms", opening.Medians(1), null, null));
            Dictionary<Contender, double> ratios = opening.Medians(1).ToDictionary(large => large.Key, large => large.Value / opening.Medians(0)[large.Key]);
            figures.Add(new(OpenRatio, "x", ratios, null, 2));
        }

        return figures.Where(figure => Wanted(figure.Name));
    }

    private IEnumerable<Contender> Contenders() =>
        settings.NewerQemu is null ? [Contender.BlockMount, Contender.Qemu] : [Contender.BlockMount, Contender.Qemu, Contender.NewerQemu];

    // Interleaved as the loads are. The first round reads programs from disk and does not count.
    private async Task<Opening> OpeningAsync(string name, List<ImageFile> disks, CancellationToken stop)
    {
        Opening opening = new();
        for (int round = -1; round < settings.Rounds; round++)
        {
            for (int disk = 0; disk < disks.Count; disk++)
            {
                foreach (Contender contender in Contenders())
                {
                    stop.ThrowIfCancellationRequested();
                    if (await TryOpenAsync(name, contender, disks[disk]) is { } milliseconds && round >= 0)
                    {
                        opening.Add(disk, contender, milliseconds);
                    }
                }
            }
        }

        return opening;
    }

    // Null for one that fails, now or in an earlier round.
    private async Task<double?> TryOpenAsync(string name, Contender contender, ImageFile image)
    {
        if (failures.Has(name, contender))
        {
            return null;
        }

        try
        {
            await using ServedDisk disk = await servers.MountAsync(contender, image);
            return disk.AnsweredAfter.TotalMilliseconds;
        }
        catch (Exception error) when (error is InvalidOperationException or IOException or TimeoutException)
        {
            failures.Add(name, contender, error.Message);
            return null;
        }
    }

    /// <summary>Resident mebibytes after random reads and writes all over a 1 TiB disk on 64 images.</summary>
    private async Task<Dictionary<Contender, double>> ResidentAsync(CancellationToken stop)
    {
        Dictionary<Contender, double> resident = [];
        foreach (Contender contender in Contenders())
        {
            ImageFile top = await images.LargeChainAsync();
            await using ServedDisk disk = await servers.MountAsync(contender, top);
            foreach (string mode in new[] { "randread", "randwrite" })
            {
                _ = await FioRun.RunAsync(FioArguments.AllOver(new FioJob(mode, "4k", 32), settings.Seconds, disk.Address), stop);
            }

            resident[contender] = ProcessFigures.ResidentBytes(disk.Pid!.Value) / (double)(1 << 20);
        }

        return resident;
    }
}
