using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Exports.Fuse;
using BlockMount.Exports.Fuse.Ring;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Fuse;

/// <summary>
/// What is particular to FUSE over io_uring. That everything else holds on this transport too is shown by running the other suites with it: where it is
/// switched on, mounts use it (see scripts/test).
/// </summary>
[Collection(RunAlone.Name)]
public sealed class FuseRingTests
{
    private const int MiB = 1 << 20;
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(30);

    [RequiresFact(Needs.FuseUring)]
    public async Task Auto_UsesRingsWhereTheKernelOffersThem()
    {
        await using MountedDisk automatic = await MountedDisk.InMemoryAsync(MiB);
        await using MountedDisk asked = await MountedDisk.InMemoryAsync(MiB, Over(FuseTransport.Uring));
        await using MountedDisk refused = await MountedDisk.InMemoryAsync(MiB, Over(FuseTransport.Dev));

        Assert.Equal(FuseTransport.Uring, automatic.Export.Transport);
        Assert.Equal(FuseTransport.Uring, asked.Export.Transport);
        Assert.Equal(FuseTransport.Dev, refused.Export.Transport);
        Assert.Equal(Environment.ProcessorCount, asked.Export.Session.Rings.Count);
    }

    // Small and large requests mixed, so that some are served by the rings and some elsewhere.
    [RequiresFact(Needs.FuseUring, "fio")]
    public async Task Fio_MixedSizesOnTwoJobs_FindsNoDifference()
    {
        await using MountedDisk disk = await MountedDisk.OnHostFileAsync(64 * MiB, Over(FuseTransport.Uring));
        (await ToolProcess.RunAsync(
            "fio", "--name=verify", $"--filename={disk.Path}", "--rw=randwrite", "--bsrange=512-1m", "--size=32m", "--offset_increment=32m", "--numjobs=2",
            "--direct=1", "--ioengine=libaio", "--iodepth=32", "--verify=crc32c", "--verify_fatal=1", "--blockalign=512", "--io_size=32m",
            "--randrepeat=1", "--norandommap=0")).MustSucceed();
    }

    // The same number of requests as "no pauses from the collector" asks for: 1,000,000.
    [RequiresFact(Needs.FuseUring, "fio")]
    public async Task MillionRequests_CollectNothing()
    {
        await using MountedDisk disk = await MountedDisk.OnHostFileAsync(MiB, Over(FuseTransport.Uring));
        await ReadAsync(disk, 10_000);
        int before = GC.CollectionCount(0);
        long bytes = GC.GetTotalAllocatedBytes(precise: true);
        await ReadAsync(disk, 1_000_000);

        // What starting fio costs in this process.
        Assert.InRange(GC.GetTotalAllocatedBytes(precise: true) - bytes, 0, 4 * MiB);
        Assert.InRange(GC.CollectionCount(0) - before, 0, 1);
    }

    // SCHED_IDLE on the client's processor is the fastest place for one request at a time, and starves beside a busy program unless the guard acts.
    [RequiresFact(Needs.FuseUring | Needs.Root)]
    public async Task OneRequestAtATime_BesideBusyPrograms_IsNotStarved()
    {
        await using MountedDisk disk = await MountedDisk.OnHostFileAsync(MiB, Over(FuseTransport.Uring));
        using FileStream client = new(disk.Path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        IReadOnlyList<FuseRing> rings = disk.Export.Session.Rings;
        bool confined = false;
        Stopwatch watch = Stopwatch.StartNew();
        while (!confined && watch.Elapsed < s_limit)
        {
            Read(client, 100);
            confined = rings.Any(ring => ring.Placement.IsConfined);
        }

        Assert.True(confined, "no ring's thread was confined");
        bool stop = false;
        Thread[] busy = [.. Enumerable.Range(0, Environment.ProcessorCount * 2).Select(_ => new Thread(() => Spin(ref stop)))];
        Array.ForEach(busy, thread => thread.Start());
        try
        {
            watch.Restart();
            TimeSpan longest = Read(client, 500);
            Assert.True(longest < TimeSpan.FromSeconds(1), $"a request took {longest.TotalMilliseconds} ms");
            Assert.True(watch.Elapsed < s_limit, $"500 requests took {watch.Elapsed.TotalSeconds} s");
        }
        finally
        {
            Volatile.Write(ref stop, true);
            Array.ForEach(busy, thread => thread.Join());
        }
    }

    [RequiresFact(Needs.FuseUring | Needs.Root)]
    public async Task Client_Gone_ThreadsAreFreedAgain()
    {
        await using MountedDisk disk = await MountedDisk.OnHostFileAsync(MiB, Over(FuseTransport.Uring));
        using (FileStream client = new(disk.Path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0))
        {
            Read(client, 20_000);
        }

        Stopwatch watch = Stopwatch.StartNew();
        while (disk.Export.Session.Rings.Any(ring => ring.Placement.IsConfined))
        {
            Assert.True(watch.Elapsed < s_limit, "a thread stays confined without work");
            await Task.Delay(20);
        }
    }

    [RequiresFact(Needs.FuseUring | Needs.Root)]
    public async Task Dispose_WhileThreadsAreConfined_LeavesNoneThatSomebodyElseCouldBeTakenFor()
    {
        MountedDisk disk = await MountedDisk.OnHostFileAsync(MiB, Over(FuseTransport.Uring));
        await using (disk)
        {
            using (FileStream client = new(disk.Path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0))
            {
                Stopwatch watch = Stopwatch.StartNew();
                while (!disk.Export.Session.Rings.Any(ring => ring.Placement.IsConfined) && watch.Elapsed < s_limit)
                {
                    Read(client, 100);
                }
            }

            Assert.Contains(disk.Export.Session.Rings, ring => ring.Placement.IsConfined);
            await disk.Export.DisposeAsync();
            Assert.All(disk.Export.Session.Rings, ring => Assert.Equal((false, 0), (ring.Placement.IsConfined, ring.Placement.ThreadId)));
        }
    }

    // Real refusals by the kernel, in the middle of a mount.
    [RequiresFact(Needs.FuseUring)]
    public async Task RingsRefused_AutoMountsWithoutThem_UringSaysWhy()
    {
        int descriptors = Directory.GetFiles("/proc/self/fd").Length;
        await using (MountedDisk disk = await MountedDisk.InMemoryAsync(MiB, options => options with { RingQueueShift = 10_000 }))
        {
            Assert.Equal(FuseTransport.Dev, disk.Export.Transport);
            Assert.Equal(MiB, (await File.ReadAllBytesAsync(disk.Path)).Length);
        }

        BlockIOException refused = await Assert.ThrowsAsync<BlockIOException>(
            () => MountedDisk.InMemoryAsync(MiB, options => options with { RingQueueShift = 10_000, Transport = FuseTransport.Uring }));
        Assert.Equal(Errno.EINVAL, refused.Errno);
        Assert.Contains("transport=dev", refused.Hint, StringComparison.Ordinal);
        // Those of other threads of the process may come and go.
        Assert.InRange(Directory.GetFiles("/proc/self/fd").Length, 0, descriptors + 3);
        Assert.DoesNotContain("blockmount-test", string.Concat(File.ReadLines("/proc/self/mountinfo").Where(line => line.Contains("/images/a,", StringComparison.Ordinal))), StringComparison.Ordinal);
    }

    // The kernel cuts the connection, as an administrator can through /sys/fs/fuse.
    [RequiresFact(Needs.FuseUring | Needs.Root)]
    public async Task ConnectionAborted_SessionEnds()
    {
        await using MountedDisk disk = await MountedDisk.InMemoryAsync(MiB, Over(FuseTransport.Uring));
        string id = File.ReadLines("/proc/self/mountinfo").First(line => line.Contains(disk.Path, StringComparison.Ordinal)).Split(' ')[2].Split(':')[1];
        string abort = $"/sys/fs/fuse/connections/{id}/abort";
        if (!File.Exists(abort))
        {
            (await ToolProcess.RunAsync("mount", "-t", "fusectl", "none", "/sys/fs/fuse/connections")).MustSucceed();
        }

        await File.WriteAllTextAsync(abort, "1");
        await disk.Export.Completion.WaitAsync(s_limit);
    }

    [RequiresFact(Needs.FuseUring | Needs.Root)]
    public async Task Uring_SwitchedOff_IsRefusedWithAHintAndAutoGoesWithout()
    {
        const string parameter = "/sys/module/fuse/parameters/enable_uring";
        await File.WriteAllTextAsync(parameter, "N");
        try
        {
            BlockMountException refused = await Assert.ThrowsAsync<BlockMountException>(() => MountedDisk.InMemoryAsync(MiB, Over(FuseTransport.Uring)));
            Assert.Contains("transport=uring", refused.Message, StringComparison.Ordinal);
            Assert.Contains("enable_uring", refused.Hint, StringComparison.Ordinal);
            await using MountedDisk automatic = await MountedDisk.InMemoryAsync(MiB);
            Assert.Equal(FuseTransport.Dev, automatic.Export.Transport);
        }
        finally
        {
            await File.WriteAllTextAsync(parameter, "Y");
        }
    }

    private static Func<FuseExportOptions, FuseExportOptions> Over(FuseTransport transport) => options => options with { Transport = transport };

    private static async Task ReadAsync(MountedDisk disk, int requests) => (await ToolProcess.RunAsync(
        TimeSpan.FromMinutes(5), "fio", "--name=read", $"--filename={disk.Path}", "--rw=randread", "--bs=4k", "--size=1m", "--direct=1", "--ioengine=libaio",
        "--iodepth=32", "--norandommap=1", $"--number_ios={requests}", $"--io_size={requests * 4096L}")).MustSucceed();

    private static TimeSpan Read(FileStream client, int times)
    {
        byte[] buffer = new byte[4096];
        TimeSpan longest = TimeSpan.Zero;
        for (int i = 0; i < times; i++)
        {
            long start = Stopwatch.GetTimestamp();
            Assert.Equal(buffer.Length, RandomAccess.Read(client.SafeFileHandle, buffer, (i & 255) * 4096L));
            TimeSpan took = Stopwatch.GetElapsedTime(start);
            longest = took > longest ? took : longest;
        }

        return longest;
    }

    private static void Spin(ref bool stop)
    {
        while (!Volatile.Read(ref stop))
        {
        }
    }
}
