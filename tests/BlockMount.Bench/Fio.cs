using System.Text.Json;
using BlockMount.TestSupport;

namespace BlockMount.Bench;

/// <summary>What one fio run measured.</summary>
/// <param name="Iops">Requests per second, all jobs.</param>
/// <param name="BytesPerSecond">All jobs.</param>
/// <param name="P99Microseconds">99th percentile of the completion latency.</param>
/// <param name="Requests">Requests completed.</param>
internal sealed record FioResult(double Iops, double BytesPerSecond, double P99Microseconds, long Requests);

/// <summary>One fio job: what is asked of a disk.</summary>
/// <param name="Mode">fio's rw: randread, randwrite, read, write.</param>
/// <param name="BlockSize">As fio writes it.</param>
/// <param name="Depth">Requests in flight per job.</param>
/// <param name="Jobs">Parallel jobs; for NBD connections.</param>
/// <param name="WholeBytes">Write exactly this much, anywhere on the disk, instead of for a time; 0 for a time.</param>
internal sealed record FioJob(string Mode, string BlockSize, int Depth, int Jobs = 1, long WholeBytes = 0);

/// <summary>Runs fio and reads its JSON.</summary>
internal static class Fio
{
    /// <summary>Loads a mounted file, through libaio and without the client's page cache.</summary>
    public static Task<FioResult> OnFileAsync(string path, FioJob job, int seconds) =>
        RunAsync(job, seconds, "--ioengine=libaio", "--direct=1", $"--filename={path}");

    /// <summary>Loads an NBD export.</summary>
    public static Task<FioResult> OnNbdAsync(string uri, FioJob job, int seconds) =>
        RunAsync(job, seconds, "--ioengine=nbd", $"--uri={uri}");

    private static async Task<FioResult> RunAsync(FioJob job, int seconds, params string[] target)
    {
        string[] extent = job.WholeBytes > 0
            ? [$"--size={BenchImages.DiskBytes}", $"--io_size={job.WholeBytes}"]
            : [$"--size={BenchImages.DiskBytes}", $"--runtime={seconds}", "--time_based=1", "--ramp_time=0.5"];
        string[] arguments =
        [
            "--name=bench", "--output-format=json", $"--rw={job.Mode}", $"--bs={job.BlockSize}", $"--iodepth={job.Depth}",
            $"--numjobs={job.Jobs}", "--group_reporting=1", "--thread=1", "--randrepeat=1", "--norandommap=1", "--random_generator=tausworthe64",
            .. extent, .. target,
        ];
        ToolResult result = (await ToolProcess.RunAsync(TimeSpan.FromMinutes(5), "fio", arguments)).MustSucceed();
        // fio may print remarks before the document.
        string json = result.Output[result.Output.IndexOf('{', StringComparison.Ordinal)..];
        using JsonDocument document = JsonDocument.Parse(json);
        JsonElement measured = document.RootElement.GetProperty("jobs")[0].GetProperty(job.Mode.Contains("read", StringComparison.Ordinal) ? "read" : "write");
        return new FioResult(
            measured.GetProperty("iops").GetDouble(),
            measured.GetProperty("bw_bytes").GetDouble(),
            measured.GetProperty("clat_ns").TryGetProperty("percentile", out JsonElement all) && all.TryGetProperty("99.000000", out JsonElement p99)
                ? p99.GetDouble() / 1000
                : 0,
            measured.GetProperty("total_ios").GetInt64());
    }
}
