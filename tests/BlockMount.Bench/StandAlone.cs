using System.Diagnostics;
using BlockMount.TestSupport;

namespace BlockMount.Bench;

/// <summary>Figures that have a limit of their own instead of a competitor.</summary>
internal static class StandAlone
{
    private const long Tebibyte = 1L << 40;

    /// <summary>Milliseconds from exec of the release binary to a mount that answers a read; median.</summary>
    public static async Task<double> StartMsAsync(string folder, string image, int runs)
    {
        List<double> times = [];
        for (int run = 0; run < runs + 1; run++)
        {
            string place = Path.Combine(folder, "start");
            Stopwatch watch = Stopwatch.StartNew();
            await using ServedDisk disk = await StartedAsync(folder, image, place, watch, times);
        }

        // The first run reads the program from disk.
        double[] sorted = [.. times.Skip(1).Order()];
        return sorted[sorted.Length / 2];
    }

    /// <summary>Resident mebibytes after random reads and writes all over a 1 TiB disk on 64 images.</summary>
    public static async Task<double> ResidentMiBAsync(string folder, int seconds)
    {
        string top = await BenchImages.ChainAsync(folder, depth: 64, Tebibyte);
        await using ServedDisk disk = await ServedDisk.BlockMountAsync(folder, top, nbd: false, "deep");
        foreach (string mode in new[] { "randread", "randwrite" })
        {
            (await ToolProcess.RunAsync(
                TimeSpan.FromMinutes(5),
                "fio", "--name=deep", "--ioengine=libaio", "--direct=1", $"--filename={disk.Address}", $"--rw={mode}", "--bs=4k", "--iodepth=32",
                "--time_based=1", $"--runtime={seconds}", $"--size={Tebibyte}", "--norandommap=1", "--randrepeat=1", "--thread=1")).MustSucceed();
        }

        return disk.ResidentBytes() / (double)(1 << 20);
    }

    private static async Task<ServedDisk> StartedAsync(string folder, string image, string place, Stopwatch watch, List<double> times)
    {
        ToolResult started = await ToolProcess.RunAsync(
            "/usr/bin/env", $"BLOCKMOUNT_RUNTIME_DIR={Path.Combine(folder, "run")}", ReleaseBinary.FullPath, image, place, "--id", "start");
        started.MustSucceed();
        await using (FileStream file = new(place, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0))
        {
            _ = await file.ReadAsync(new byte[512]);
        }

        times.Add(watch.Elapsed.TotalMilliseconds);
        return await ServedDisk.AdoptAsync(folder, place, "start");
    }
}
