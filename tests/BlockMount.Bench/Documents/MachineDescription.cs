using BlockMount.TestSupport;

namespace BlockMount.Bench.Documents;

/// <summary>What the figures were taken on and with.</summary>
/// <param name="Machine">Processors, kernel, load at the start.</param>
/// <param name="Debian">Versions of Debian's QEMU.</param>
/// <param name="Newer">Version of the newer QEMU, or null.</param>
/// <param name="Tools">Versions of nbdkit and fio.</param>
/// <param name="Uring">The kernel's switch for FUSE over io_uring: Y, N, or "not in this kernel".</param>
internal sealed record MachineDescription(string Machine, string Debian, string? Newer, string Tools, string Uring)
{
    /// <summary>Looks at the machine. Before our own load begins: a busy machine explains odd figures.</summary>
    public static async Task<MachineDescription> ReadAsync(BenchSettings settings)
    {
        const string uring = "/sys/module/fuse/parameters/enable_uring";
        string load = (await File.ReadAllTextAsync("/proc/loadavg")).Split(' ')[0];
        string processor = File.ReadLines("/proc/cpuinfo").FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal))?.Split(':')[1].Trim() ?? "?";
        return new MachineDescription(
            $"{Environment.ProcessorCount} processors ({processor}), {await FirstLineAsync("uname", "-sr")}, load average {load} at the start",
            $"{await FirstLineAsync("qemu-storage-daemon", "--version")} and qemu-nbd of the same package",
            settings.NewerQemu is { } newer ? await FirstLineAsync(newer, "--version") : null,
            $"{await FirstLineAsync("nbdkit", "--version")}; load by {await FirstLineAsync("fio", "--version")}",
            File.Exists(uring) ? (await File.ReadAllTextAsync(uring)).Trim() : "not in this kernel");
    }

    private static async Task<string> FirstLineAsync(string tool, params string[] arguments) =>
        (await ToolProcess.RunAsync(tool, arguments)).MustSucceed().Output.Split('\n')[0];
}
