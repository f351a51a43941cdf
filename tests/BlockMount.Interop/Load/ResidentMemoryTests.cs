using System.Diagnostics;
using System.Globalization;
using BlockMount.Interop.Serving;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Interop.Load;

/// <summary>
/// The daemon's resident memory, at its highest, under random load on a 1 TiB image at depth 64 whose tables are far too many for any cache (<see cref="LargeDisk"/>): the
/// budget for metadata, and an amount that does not depend on the image.
/// <para>With the default budget it comes to about 125 MiB: above the goal of 100, which holds for a disk whose tables fit, and below the floor of 200. The program takes 34 MiB
/// before its first request (26 of them pages of its file), full caches 68, and the collector's heap around evicted slices some 20.</para>
/// </summary>
[Collection(RunAlone.Name)]
public sealed class ResidentMemoryTests(ITestOutputHelper output) : ServedImageFixture
{
    private const int Depth = 64;
    private const double MiB = 1 << 20;

    // The program itself, connections and buffers, and what the collector keeps around a cache that misses on every read.
    private const double BesideMiB = 76;

    [RequiresTheory(Needs.Release | Needs.Fuse, "fio")]
    [InlineData("cache-size=64M", 64, 16_000)]
    [InlineData("cache-size=16M", 16, 6_000)]
    public async Task LargeDiskAtDepth64_RandomReadsThenWrites_StaysBelowTheBudgetAndAConstant(string option, double budgetMiB, int reads)
    {
        Stopwatch watch = Stopwatch.StartNew();
        string disk = await MountAsync(LargeDisk.WriteChain(Folder, Depth), "-o", option);
        int pid = (await PidsAsync())[0];
        double idle = Memory(pid, "VmRSS");
        await LoadAsync(disk, "randread", reads);
        double afterReads = Memory(pid, "VmRSS");
        await LoadAsync(disk, "randwrite", 2_000);
        double highest = Memory(pid, "VmHWM");
        output.WriteLine(string.Create(
            CultureInfo.InvariantCulture, $"{watch.Elapsed.TotalSeconds:F1} s; resident: {idle:F1} MiB idle, {afterReads:F1} MiB after reads, {highest:F1} MiB at most"));

        // Less would mean that the load did not fill the caches, and the test would prove little.
        Assert.InRange(afterReads - idle, budgetMiB * 0.9, double.MaxValue);
        Assert.InRange(highest, 0, budgetMiB + BesideMiB);
        await UmountAsync();
    }

    private static async Task LoadAsync(string disk, string mode, int requests)
    {
        const int Jobs = 2;
        (await ToolProcess.RunAsync(
            "fio", "--name=load", $"--filename={disk}", $"--rw={mode}", "--bs=4k", $"--size={LargeDisk.Size}", $"--io_size={requests / Jobs * 4096}", $"--numjobs={Jobs}",
            "--thread=1", "--direct=1", "--ioengine=libaio", "--iodepth=32", "--norandommap=1", "--random_generator=tausworthe64", "--allow_file_create=0")).MustSucceed();
    }

    private static double Memory(int pid, string field)
    {
        string line = File.ReadLines($"/proc/{pid}/status").First(text => text.StartsWith(field + ":", StringComparison.Ordinal));
        return long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024 / MiB;
    }
}
