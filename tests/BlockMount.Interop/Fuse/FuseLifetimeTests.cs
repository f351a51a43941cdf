using System.Diagnostics;
using System.Globalization;
using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Exports.Fuse;
using BlockMount.Formats.Raw;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Faults;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace BlockMount.Interop.Fuse;

/// <summary>Mounting, unmounting and everything that goes wrong with it (USERS A5, A6).</summary>
public sealed class FuseLifetimeTests
{
    private const int MiB = 1 << 20;
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(30);

    [RequiresFuseFact]
    public async Task Mount_ShowsSourceTypeAndOptions()
    {
        await using MountedDisk disk = await MountedDisk.InMemoryAsync(MiB);
        string line = Assert.Single(MountsOn(disk.Path));
        Assert.Contains(" - fuse.blockmount /images/a,\\040b.raw ", line, StringComparison.Ordinal);
        Assert.Contains("nosuid,nodev", line, StringComparison.Ordinal);
        Assert.Equal(MiB, new FileInfo(disk.Path).Length);
    }

    [RequiresFuseFact]
    public async Task Dispose_UnmountsAndShowsTheOldContent()
    {
        MountedDisk disk = await MountedDisk.InMemoryAsync(MiB);
        await using (disk)
        {
            await disk.Export.DisposeAsync();
            Assert.True(disk.Export.Completion.IsCompletedSuccessfully);
            Assert.Empty(MountsOn(disk.Path));
            Assert.Equal("content below the mount", await File.ReadAllTextAsync(disk.Path));
        }
    }

    [RequiresFact(Needs.Fuse | Needs.Root, "umount")]
    public async Task Unmount_FromOutside_EndsTheExport()
    {
        await using MountedDisk disk = await MountedDisk.InMemoryAsync(MiB);
        (await ToolProcess.RunAsync("umount", disk.Path)).MustSucceed();
        await disk.Export.Completion.WaitAsync(s_limit);
    }

    [RequiresFuseFact]
    public async Task Dispose_FileIsOpen_DetachesAndCutsTheClientOff()
    {
        await using MountedDisk disk = await MountedDisk.InMemoryAsync(MiB);
        await using FileStream client = new(disk.Path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        Assert.Equal(0, client.ReadByte());

        await disk.Export.DisposeAsync().AsTask().WaitAsync(s_limit);

        Assert.Empty(MountsOn(disk.Path));
        // ENOTCONN, or ECANCELED over io_uring, which .NET has another exception for.
        Exception? cutOff = Record.Exception(() => client.ReadByte());
        Assert.True(cutOff is IOException or OperationCanceledException, $"{cutOff}");
    }

    // A process that another thread has just forked holds copies of the channels until its exec: closing ours does not end the connection then.
    [RequiresFact(Needs.Fuse | Needs.Root)]
    public async Task Dispose_FileIsOpenAndTheChannelsAreHeldElsewhere_CutsTheClientOff()
    {
        HashSet<string> before = [.. FuseChannels()];
        await using MountedDisk disk = await MountedDisk.InMemoryAsync(MiB);
        int[] held = [.. FuseChannels().Where(fd => !before.Contains(fd)).Select(fd => Libc.dup(int.Parse(fd, CultureInfo.InvariantCulture)))];
        try
        {
            Assert.NotEmpty(held);
            FileStream client = new(disk.Path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
            await disk.Export.DisposeAsync().AsTask().WaitAsync(s_limit);
            Task<Exception?> cutOff = Task.Run<Exception?>(() => Record.Exception(() => client.ReadByte()));
            await Task.WhenAny(cutOff, Task.Delay(TimeSpan.FromSeconds(5)));
            Assert.True(cutOff.IsCompleted, "the client waits for ever");
            Assert.True(await cutOff is IOException or OperationCanceledException, $"{await cutOff}");
            await client.DisposeAsync();
        }
        finally
        {
            Array.ForEach(held, fd => _ = Libc.close(fd));
        }
    }

    [RequiresFuseFact]
    public async Task Dispose_DuringTraffic_Ends()
    {
        await using MountedDisk disk = await MountedDisk.InMemoryAsync(MiB);
        using FileStream client = new(disk.Path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0);
        Task<long> traffic = Task.Run(() => TransferUntilCutOff(client));

        await Task.Delay(200);
        await disk.Export.DisposeAsync().AsTask().WaitAsync(s_limit);

        Assert.True(await traffic.WaitAsync(s_limit) > 0);
        Assert.Empty(MountsOn(disk.Path));
    }

    // Over /dev/fuse and over io_uring, whichever the machine's setting says: scripts/test runs this with both.
    [RequiresFuseFact]
    public async Task Dispose_RequestIsWaiting_ClientGetsItsReply()
    {
        GatedFile file = new();
        await using MountedDisk disk = await MountedDisk.MountAsync(file);
        await using FileStream client = new(disk.Path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        byte[] buffer = new byte[4096];
        Task<int> read = Task.Run(() => client.Read(buffer));
        await file.Asked.WaitAsync(s_limit);

        Task ended = disk.Export.DisposeAsync().AsTask();
        // Long after the mount was detached and everything that does not wait has ended.
        await Task.Delay(500);
        Assert.False(ended.IsCompleted);
        byte[] content = [.. Enumerable.Range(0, 4096).Select(i => (byte)(i * 7))];
        file.Open(content);

        Assert.Equal(4096, await read.WaitAsync(s_limit));
        Assert.Equal(content, buffer);
        await ended.WaitAsync(s_limit);
    }

    // The kernel holds requests back until the mount is set up, and then lets them go all at once. One that got lost would hold its client up until the unmount.
    [RequiresFuseFact]
    public async Task Mount_ClientsWaitForIt_AllAreServed()
    {
        using ScratchFolder folder = new();
        string mountPoint = folder["disk"];
        await File.WriteAllTextAsync(mountPoint, "below");
        long[] asked = new long[12];
        bool stop = false;
        Thread[] clients = [.. asked.Select((_, i) => new Thread(() => AskUntilStopped(mountPoint, ref asked[i], ref stop)) { IsBackground = true })];
        Array.ForEach(clients, client => client.Start());
        await using BlockDevice device = new("d", new FormatNode("d", "m", new RawDriver(new MemoryFile(content: new byte[512])), null), readOnly: false);
        for (int round = 0; round < 30; round++)
        {
            await using FuseExport export = await FuseExport.StartAsync(
                device, new FuseExportOptions { MountPoint = mountPoint, FileSystemName = "m" }, NullLogger.Instance);
            long[] before = [.. asked];
            bool all = SpinWait.SpinUntil(() => asked.Index().All(client => Volatile.Read(ref asked[client.Index]) > before[client.Index] + 1), s_limit);
            Assert.True(all, $"round {round}: a client still waits for its first answer");
        }

        Volatile.Write(ref stop, true);
        Assert.All(clients, client => Assert.True(client.Join(s_limit)));
    }

    [RequiresFuseFact]
    public async Task Start_MountPointInUse_IsRefused()
    {
        await using MountedDisk disk = await MountedDisk.InMemoryAsync(MiB);
        BlockMountException failure = await Assert.ThrowsAsync<BlockMountException>(() => StartAsync(disk.Path));
        Assert.StartsWith($"There already is a FUSE export on '{disk.Path}'", failure.Message, StringComparison.Ordinal);
        Assert.Single(MountsOn(disk.Path));
    }

    [RequiresFuseFact]
    public async Task Start_NoRegularFile_IsRefused()
    {
        using ScratchFolder folder = new();
        BlockMountException failure = await Assert.ThrowsAsync<BlockMountException>(() => StartAsync(folder.FullPath));
        Assert.Equal($"'{folder.FullPath}' is not a regular file", failure.Message);

        failure = await Assert.ThrowsAsync<BlockMountException>(() => StartAsync(folder["nofile"]));
        Assert.Equal($"Failed to stat '{folder["nofile"]}': No such file or directory", failure.Message);
    }

    [RequiresFuseFact]
    public async Task ClearStale_DaemonDied_RemovesTheMount()
    {
        using ScratchFolder folder = new();
        string mountPoint = folder["disk"];
        await File.WriteAllTextAsync(mountPoint, "below");
        // Closing the only descriptor of /dev/fuse is what the death of a daemon does.
        FuseMount.Create(new FuseExportOptions { MountPoint = mountPoint, FileSystemName = "dead" }).Channel.Dispose();

        IOException failure = Assert.ThrowsAny<IOException>(() => File.ReadAllText(mountPoint));
        Assert.Contains("not connected", failure.Message, StringComparison.OrdinalIgnoreCase);
        Assert.True(FuseMount.ClearStale(mountPoint));
        Assert.Equal("below", await File.ReadAllTextAsync(mountPoint));
        Assert.False(FuseMount.ClearStale(mountPoint));
    }

    [RequiresFuseFact]
    public async Task ClearStale_MountIsAliveOrForeign_LeavesItAlone()
    {
        await using MountedDisk disk = await MountedDisk.InMemoryAsync(MiB);
        Assert.False(FuseMount.ClearStale(disk.Path));
        Assert.Single(MountsOn(disk.Path));
        Assert.False(FuseMount.ClearStale("/proc"));
        Assert.False(FuseMount.ClearStale(disk.Folder["nothing/there"]));
    }

    [RequiresFuseFact("fusermount3")]
    public async Task Fusermount_MountsAndUnmounts()
    {
        await using MountedDisk disk = await MountedDisk.InMemoryAsync(MiB, options => options with { AlwaysUseFusermount = true });
        Assert.Contains("fuse.blockmount", Assert.Single(MountsOn(disk.Path)), StringComparison.Ordinal);
        await File.WriteAllBytesAsync(disk.Folder["in"], new byte[MiB]);
        (await ToolProcess.RunAsync("dd", $"if={disk.Folder["in"]}", $"of={disk.Path}", "bs=64k", "conv=notrunc")).MustSucceed();
        await disk.Export.DisposeAsync();
        Assert.Empty(MountsOn(disk.Path));
    }

    [RequiresFuseFact]
    public async Task MountAndUnmount_HundredTimes_LeaksNothing()
    {
        await CycleAsync(5);
        int descriptors = Directory.GetFiles("/proc/self/fd").Length;
        int mounts = MountsOn("").Length;
        int threads = Process.GetCurrentProcess().Threads.Count;

        await CycleAsync(100);

        // The pool and other tests may hold a few more or less; a leak would be hundreds.
        Assert.InRange(Directory.GetFiles("/proc/self/fd").Length, 0, descriptors + 20);
        Assert.InRange(Process.GetCurrentProcess().Threads.Count, 0, threads + 20);
        Assert.InRange(MountsOn("").Length, 0, mounts + 10);
    }

    private static IEnumerable<string> FuseChannels() =>
        Directory.GetFiles("/proc/self/fd").Where(link => new FileInfo(link).LinkTarget == "/dev/fuse").Select(link => Path.GetFileName(link));

    private static async Task CycleAsync(int rounds)
    {
        for (int i = 0; i < rounds; i++)
        {
            await using MountedDisk disk = await MountedDisk.InMemoryAsync(MiB);
            Assert.Equal(MiB, new FileInfo(disk.Path).Length);
        }
    }

    private static void AskUntilStopped(string path, ref long asked, ref bool stop)
    {
        while (!Volatile.Read(ref stop))
        {
            // False between unmount and the end of the connection.
            _ = File.Exists(path);
            Volatile.Write(ref asked, asked + 1);
        }
    }

    private static async Task StartAsync(string mountPoint)
    {
        await using BlockDevice device = new("d", new FormatNode("d", "m", new RawDriver(new MemoryFile(content: new byte[512])), null), readOnly: false);
        await using FuseExport export = await FuseExport.StartAsync(
            device, new FuseExportOptions { MountPoint = mountPoint, FileSystemName = "m" }, NullLogger.Instance);
    }

    private static long TransferUntilCutOff(FileStream client)
    {
        byte[] buffer = new byte[64 << 10];
        for (long rounds = 0; ; rounds++)
        {
            try
            {
                client.Position = 0;
                client.ReadExactly(buffer);
                client.Position = 0;
                client.Write(buffer);
            }
            catch (Exception error) when (error is IOException or OperationCanceledException)
            {
                // ECANCELED is what the kernel says over io_uring.
                return rounds;
            }
        }
    }

    private static string[] MountsOn(string path) =>
        [.. File.ReadLines("/proc/self/mountinfo").Where(line => line.Contains($" {path}", StringComparison.Ordinal) && line.Contains("fuse.blockmount", StringComparison.Ordinal))];
}
