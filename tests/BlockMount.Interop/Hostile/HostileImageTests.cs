using System.Globalization;
using System.Text.RegularExpressions;
using BlockMount.Interop.Cli;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Hostile;

/// <summary>
/// An image from a stranger costs a clean error or is served, within two seconds of processor time and 256 MiB, and opens no file that the policy
/// forbids (RELIABILITY H14, I10). Everything runs on the release binary.
/// </summary>
public sealed partial class HostileImageTests : CliFixture
{
    private const long CpuMsMax = 2000;
    private const long PeakKibMax = 256 << 10;

    // A stranger's image must not hang, however busy the machine is.
    private const long WallMsMax = 30_000;

    private static readonly HostileImage[] s_images =
        [.. HeaderCases.All(), .. TableCases.All(), .. SideTableCases.All(), .. ReferenceCases.All()];

    public static TheoryData<string> Names => [.. s_images.Select(image => image.Name)];

    public static TheoryData<string> NamesWithReferences => [.. s_images.Where(image => image.Forbidden is not null).Select(image => image.Name)];

    [Fact]
    public void Corpus_IsAsLargeAsPromised()
    {
        Assert.True(s_images.Length >= 80, $"only {s_images.Length} images");
        Assert.Equal(s_images.Length, s_images.Select(image => image.Name).Distinct().Count());
    }

    [RequiresTheory(Needs.Release | Needs.Fuse, "qemu-img", "qemu-io", "gcc")]
    [MemberData(nameof(Names))]
    public async Task EveryVerb_OnAHostileImage_EndsCleanlyWithinItsBounds(string name)
    {
        HostileImage hostile = s_images.First(image => image.Name == name);
        await hostile.Make(Folder);
        await BoundedAsync("info", "-f", "qcow2", this["image"]);
        await BoundedAsync("check", "-f", "qcow2", this["image"]);
        await ServeAsync(hostile, "--read-only");
        await ServeAsync(hostile);
        await BoundedAsync("check", "-r", "all", "-f", "qcow2", this["image"]);
    }

    [RequiresTheory(Needs.Release | Needs.Fuse, "qemu-img", "qemu-io", "strace")]
    [MemberData(nameof(NamesWithReferences))]
    public async Task ForbiddenFile_IsNeverOpened(string name)
    {
        HostileImage hostile = s_images.First(image => image.Name == name);
        await hostile.Make(Folder);
        await TracedAsync(hostile, "info", this["image"]);
        await TracedAsync(hostile, "info", "--backing-chain", this["image"]);
        await TracedAsync(hostile, "check", this["image"]);
        await TracedAsync(hostile, this["image"], this["m"]);
    }

    // Proves that the trace sees what is opened.
    [RequiresFact(Needs.Release, "qemu-img", "qemu-io", "strace")]
    public async Task AllowedBackingFile_IsSeenInTheTrace()
    {
        await File.WriteAllBytesAsync(this["secret"], new byte[BaseImages.DiskSize]);
        new ImageBytes([.. await BaseImages.Plain]).OnlyExtension(0xe2792aca, "raw", "secret").Save(this["image"]);
        Assert.Contains(await OpenedAsync("info", "--backing-chain", this["image"]), path => path.EndsWith("/secret", StringComparison.Ordinal));
    }

    // Mounts, reads, writes and unmounts, where it can be mounted.
    private async Task ServeAsync(HostileImage hostile, params string[] more)
    {
        int exit = await BoundedAsync([this["image"], this["m"], "-f", "qcow2", .. more]);
        if (exit != 0)
        {
            return;
        }

        Assert.False(hostile.MustBeRefused, "it was mounted");
        int pid = Assert.Single(await PidsAsync());
        Use(this["m"], write: more.Length == 0);
        (long cpuMs, long peakKib) = Consumption(pid);
        await RunAsync("umount", this["m"]);
        Assert.True(cpuMs <= CpuMsMax, $"the daemon used {cpuMs} ms");
        Assert.True(peakKib <= PeakKibMax, $"the daemon used {peakKib} KiB");
        // A daemon that could not write its last metadata says so and ends all the same.
        Assert.Empty(await PidsAsync());
    }

    // Errors are answers, too.
    private static void Use(string path, bool write)
    {
        using FileStream disk = new(path, FileMode.Open, write ? FileAccess.ReadWrite : FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        byte[] buffer = new byte[256 << 10];
        foreach (long offset in new[] { 0L, 1 << 20, 3 << 20, RandomAccess.GetLength(disk.SafeFileHandle) - 4096 })
        {
            Attempt(() => RandomAccess.Read(disk.SafeFileHandle, buffer, Math.Max(offset, 0)));
            if (write)
            {
                Attempt(() => RandomAccess.Write(disk.SafeFileHandle, buffer.AsSpan(0, 70_000), Math.Max(offset, 0)));
            }
        }

        Attempt(() => CheckedFlush.Run(disk.SafeFileHandle));
    }

    private static void Attempt(Action action)
    {
        try
        {
            action();
        }
        catch (IOException)
        {
            // A clean error.
        }
    }

    private async Task<int> BoundedAsync(params string[] arguments)
    {
        string report = this["report"];
        ToolResult result = await ToolProcess.RunAsync(
            TimeSpan.FromMilliseconds(2 * WallMsMax),
            "/usr/bin/env",
            [$"BLOCKMOUNT_RUNTIME_DIR={this["run"]}", await NativeTests.BuildAsync("bounded"), report, ReleaseBinary.FullPath, .. arguments]);
        long[] figures = [.. (await File.ReadAllTextAsync(report)).Split(' ').Select(figure => long.Parse(figure, CultureInfo.InvariantCulture))];
        string told = $"{string.Join(' ', arguments)}: exit {figures[0]}, {figures[1]} ms CPU, {figures[2]} ms, {figures[3]} KiB\n{result.Output}\n{result.Error}";
        Assert.True(figures[0] is >= 0 and <= 3 or 63, told);
        Assert.True(figures[1] <= CpuMsMax && figures[2] <= WallMsMax && figures[3] <= PeakKibMax, told);
        Assert.DoesNotContain("   at ", result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("internal error", result.Error, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain('\u001b', result.Output + result.Error);
        return result.ExitCode;
    }

    private async Task TracedAsync(HostileImage hostile, params string[] arguments)
    {
        string forbidden = hostile.Forbidden!.StartsWith('/') ? hostile.Forbidden : this[hostile.Forbidden];
        Assert.DoesNotContain(await OpenedAsync(arguments), path => path == forbidden || path.EndsWith($"/{hostile.Forbidden}", StringComparison.Ordinal));
    }

    // Every path that the program and its children opened for reading or writing.
    private async Task<List<string>> OpenedAsync(params string[] arguments)
    {
        string trace = this["trace"];
        await ToolProcess.RunAsync(
            "/usr/bin/env",
            [
                $"BLOCKMOUNT_RUNTIME_DIR={this["run"]}", "strace", "-f", "-qq", "-s", "4096", "-e", "trace=open,openat,openat2,creat", "-o", trace,
                ReleaseBinary.FullPath, .. arguments,
            ]);
        List<string> opened = [];
        foreach (string line in await File.ReadAllLinesAsync(trace))
        {
            Match match = PathInTrace().Match(line);
            if (match.Success && !line.Contains("O_PATH", StringComparison.Ordinal))
            {
                opened.Add(match.Groups[1].Value);
            }
        }

        Assert.NotEmpty(opened);
        return opened;
    }

    private static (long CpuMs, long PeakKib) Consumption(int pid)
    {
        // proc(5): user and system time are the 14th and 15th field, in hundredths of a second, behind a name in parentheses.
        string[] stat = File.ReadAllText($"/proc/{pid}/stat").Split(')')[1].Split(' ', StringSplitOptions.RemoveEmptyEntries);
        long ticks = long.Parse(stat[11], CultureInfo.InvariantCulture) + long.Parse(stat[12], CultureInfo.InvariantCulture);
        string peak = File.ReadLines($"/proc/{pid}/status").First(line => line.StartsWith("VmHWM:", StringComparison.Ordinal));
        return (ticks * 10, long.Parse(peak.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture));
    }

    [GeneratedRegex("\"((?:[^\"\\\\]|\\\\.)*)\"")]
    private static partial Regex PathInTrace();
}
