using BlockMount.TestSupport;

namespace BlockMount.Bench;

/// <summary>Compares the release binary with Debian's QEMU and checks the floors of the first milestone.</summary>
internal static class Program
{
    private static async Task<int> Main(string[] arguments)
    {
        string? missing = Requirements.WhatIsMissing(Needs.Fuse | Needs.Release, "fio", "qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon");
        if (missing is not null)
        {
            Console.Error.WriteLine($"bench: {missing}");
            return 1;
        }

        BenchSettings settings = BenchSettings.Read(arguments);
        string folder = Directory.CreateDirectory(Path.Combine(settings.Folder, $"blockmount-bench-{Environment.ProcessId}")).FullName;
        try
        {
            return await RunAsync(settings, folder);
        }
        catch (InvalidOperationException error)
        {
            Console.Error.WriteLine($"bench: {error.Message}");
            return 1;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task<int> RunAsync(BenchSettings settings, string folder)
    {
        Console.WriteLine($"Making a 1 GiB image in {folder}");
        string image = await BenchImages.FullAsync(folder);
        Report report = new(settings);
        Comparison comparison = new(settings, folder, image);
        Console.WriteLine($"{"",-42} {"BlockMount",10} {"QEMU",10}");
        foreach (Workload workload in Workload.All.Where(workload => Wanted(settings, workload.Name)))
        {
            report.Add(await comparison.MeasureAsync(workload));
        }

        if (Wanted(settings, "start"))
        {
            report.Add("From exec to a mount that answers", await StandAlone.StartMsAsync(folder, image, settings.Pairs), "ms", 200);
        }

        if (Wanted(settings, "memory"))
        {
            report.Add("Memory (RSS), 1 TiB image at depth 64 under random load", await StandAlone.ResidentMiBAsync(folder, settings.Seconds), "MiB", 200);
        }

        if (settings.Document is { } path)
        {
            await File.WriteAllTextAsync(path, await report.DocumentAsync());
            Console.WriteLine($"Written: {path}");
        }

        return report.AllHold ? 0 : 3;
    }

    private static bool Wanted(BenchSettings settings, string name) => name.Contains(settings.Filter, StringComparison.OrdinalIgnoreCase);
}
