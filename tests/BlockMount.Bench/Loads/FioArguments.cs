using System.Globalization;
using BlockMount.Bench.Servers;

namespace BlockMount.Bench.Loads;

/// <summary>How long a run is.</summary>
/// <param name="SettleSeconds">Load that is not measured yet, in the same fio process: caches fill, code is compiled, threads find their processors.</param>
/// <param name="MeasuredSeconds">Load that counts.</param>
internal readonly record struct RunLength(double SettleSeconds, double MeasuredSeconds);

/// <summary>Writes fio's command line.</summary>
internal static class FioArguments
{
    /// <summary>The measured run. One that writes a fixed amount does not settle first: the image is to be empty and the server fresh.</summary>
    /// <param name="target">From <see cref="OnFile"/> or <see cref="OnNbd"/>.</param>
    public static string[] Measured(FioJob job, RunLength length, string[] target) => job.WholeBytes > 0
        ? [.. Common(job), $"--size={DiskImages.DiskBytes}", $"--io_size={job.WholeBytes}", .. target]
        : [.. Common(job), $"--size={DiskImages.DiskBytes}", "--time_based=1", $"--runtime={Milliseconds(length.MeasuredSeconds)}",
           $"--ramp_time={Milliseconds(length.SettleSeconds)}", .. target];

    /// <summary>Random requests all over a 1 TiB disk that is served as a file; at most 16,384 writes, so that memory has room for them.</summary>
    public static string[] AllOver(FioJob job, double seconds, string path) =>
    [
        .. Common(job), $"--size={DiskImages.LargeBytes}", $"--runtime={Milliseconds(seconds)}",
        .. job.Reads ? new[] { "--time_based=1" } : ["--io_size=64M"], .. OnFile(path),
    ];

    /// <summary>A file, past the client's page cache.</summary>
    public static string[] OnFile(string path) => ["--ioengine=libaio", "--direct=1", $"--filename={path}"];

    /// <summary>An NBD export.</summary>
    public static string[] OnNbd(string uri) => ["--ioengine=nbd", $"--uri={uri}"];

    private static string[] Common(FioJob job) =>
    [
        "--name=bench", "--output-format=json", "--percentile_list=50:99:99.9", $"--rw={job.Mode}", $"--bs={job.BlockSize}", $"--iodepth={job.Depth}",
        $"--numjobs={job.Jobs}", "--group_reporting=1", "--thread=1", "--randrepeat=1", "--norandommap=1", "--random_generator=tausworthe64",
        // Never lays a file out: what is there is what is measured.
        "--allow_file_create=0", .. job.Reads ? new[] { "--readonly" } : [],
    ];

    private static string Milliseconds(double seconds) => string.Create(CultureInfo.InvariantCulture, $"{Math.Max(1, Math.Round(seconds * 1000))}ms");
}
