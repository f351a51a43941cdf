using System.Security.Cryptography;
using BlockMount.Block.Devices;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Fuse;

/// <summary>Data through a real mount, by programs that know nothing of it.</summary>
public sealed class FuseTransferTests
{
    private const int MiB = 1 << 20;

    [RequiresFuseFact("dd")]
    public async Task Dd_InAndOut_KeepsEveryByte()
    {
        await using MountedDisk disk = await MountedDisk.InMemoryAsync(37 * MiB + 512);
        byte[] content = RandomNumberGenerator.GetBytes(37 * MiB + 512);
        await File.WriteAllBytesAsync(disk.Folder["in"], content);

        await RunAsync("dd", $"if={disk.Folder["in"]}", $"of={disk.Path}", "bs=3M", "conv=notrunc,fsync");
        await RunAsync("dd", $"if={disk.Path}", $"of={disk.Folder["out"]}", "bs=7777777");

        Assert.Equal(SHA256.HashData(content), SHA256.HashData(await File.ReadAllBytesAsync(disk.Folder["out"])));
    }

    [RequiresFuseFact("fio")]
    public async Task Fio_RandomWritesVerified_FindsNoDifference()
    {
        await using MountedDisk disk = await MountedDisk.OnHostFileAsync(64 * MiB);
        await RunAsync(
            "fio", "--name=verify", $"--filename={disk.Path}", "--rw=randwrite", "--bsrange=512-128k", "--size=64m", "--direct=1", "--ioengine=libaio",
            "--iodepth=32", "--verify=crc32c", "--verify_fatal=1", "--blockalign=512", "--io_size=32m", "--randrepeat=1", "--norandommap=0");
    }

    [RequiresFuseFact("dd")]
    public async Task Write_PastTheEnd_IsEnospc()
    {
        await using MountedDisk disk = await MountedDisk.InMemoryAsync(4 * MiB);
        ToolResult result = await ToolProcess.RunAsync("dd", "if=/dev/zero", $"of={disk.Path}", "bs=1M", "count=1", "seek=4", "conv=notrunc");

        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains("No space left on device", result.Error, StringComparison.Ordinal);
        Assert.Equal(4 * MiB, new FileInfo(disk.Path).Length);
    }

    [RequiresFuseFact]
    public async Task Write_PastTheEndOfGrowable_GrowsTheFile()
    {
        await using MountedDisk disk = await MountedDisk.OnHostFileAsync(4 * MiB, options => options with { Growable = true });
        await using (FileStream file = new(disk.Path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            file.Position = 5 * MiB;
            await file.WriteAsync(new byte[] { 1, 2, 3 });
        }

        Assert.Equal(5 * MiB + 3, new FileInfo(disk.Path).Length);
        Assert.Equal(5 * MiB + 3, new FileInfo(disk.ImagePath!).Length);
    }

    [RequiresFuseFact]
    public async Task Resize_ThroughTheDevice_ShowsAtOnce()
    {
        await using MountedDisk disk = await MountedDisk.InMemoryAsync(4 * MiB);
        Assert.Equal(4 * MiB, new FileInfo(disk.Path).Length);
        await disk.Device.ResizeAsync(5 * MiB);
        Assert.Equal(5 * MiB, new FileInfo(disk.Path).Length);
        await disk.Device.WriteAsync(5 * MiB - 1, new byte[] { 42 });
        await using FileStream file = File.OpenRead(disk.Path);
        file.Position = 5 * MiB - 1;
        Assert.Equal(42, file.ReadByte());
    }

    [RequiresFuseFact("dd", "cmp")]
    public async Task TwoProcesses_WriteInParallel_BothArrive()
    {
        await using MountedDisk disk = await MountedDisk.OnHostFileAsync(32 * MiB);
        await File.WriteAllBytesAsync(disk.Folder["in"], RandomNumberGenerator.GetBytes(32 * MiB));

        await Task.WhenAll(
            RunAsync("dd", $"if={disk.Folder["in"]}", $"of={disk.Path}", "bs=64k", "count=256", "conv=notrunc"),
            RunAsync("dd", $"if={disk.Folder["in"]}", $"of={disk.Path}", "bs=64k", "count=256", "skip=256", "seek=256", "conv=notrunc", "oflag=direct"));
        await RunAsync("cmp", disk.Folder["in"], disk.Path);
    }

    [RequiresFuseFact("gcc", "make")]
    public async Task FileOperations_OnHostFile_AllWork()
    {
        await using MountedDisk disk = await MountedDisk.OnHostFileAsync(8 * MiB);
        ToolResult result = await ToolProcess.RunAsync(await NativeTests.BuildAsync("mountcheck"), disk.Path, "grow");
        Assert.True(result.ExitCode == 0, result.Output + result.Error);
    }

    [RequiresFuseFact("touch")]
    public async Task Touch_OnTheMount_SetsTheTime()
    {
        await using MountedDisk disk = await MountedDisk.InMemoryAsync(MiB);
        await RunAsync("touch", "-d", "2001-02-03 04:05:06 UTC", disk.Path);
        Assert.Equal(new DateTime(2001, 2, 3, 4, 5, 6, DateTimeKind.Utc), File.GetLastWriteTimeUtc(disk.Path));
        await RunAsync("touch", disk.Path);
        Assert.True(File.GetLastWriteTimeUtc(disk.Path) > DateTime.UtcNow.AddMinutes(-1));
    }

    [RequiresFuseFact("fallocate", "stat")]
    public async Task PunchHole_OnTheMount_FreesSpaceOfTheHostFile()
    {
        await using MountedDisk disk = await MountedDisk.OnHostFileAsync(16 * MiB);
        await File.WriteAllBytesAsync(disk.Folder["in"], RandomNumberGenerator.GetBytes(16 * MiB));
        await RunAsync("dd", $"if={disk.Folder["in"]}", $"of={disk.Path}", "bs=1M", "conv=notrunc,fsync");
        long before = await BlocksAsync(disk.ImagePath!);
        Assert.True(before >= 16 * MiB / 512);

        await RunAsync("fallocate", "--punch-hole", "--offset", "1MiB", "--length", "12MiB", disk.Path);

        long after = await BlocksAsync(disk.ImagePath!);
        Assert.True(after <= before - 11 * MiB / 512, $"{before} blocks before, {after} after");
        Assert.Equal(after, await BlocksAsync(disk.Path));
    }

    [RequiresFact(Needs.Fuse | Needs.Loop, "losetup", "mkfs.ext4", "fsck.ext4", "mount", "umount")]
    public async Task FileSystem_OnALoopDevice_SurvivesUnmountAndCheck()
    {
        await using MountedDisk disk = await MountedDisk.OnHostFileAsync(128L * MiB);
        string loop = (await RunAsync("losetup", "--find", "--show", disk.Path)).Trim();
        try
        {
            await RunAsync("mkfs.ext4", "-q", loop);
            string content = disk.Folder["content"];
            Directory.CreateDirectory(content);
            await RunAsync("mount", loop, content);
            byte[] data = RandomNumberGenerator.GetBytes(20 * MiB);
            try
            {
                await File.WriteAllBytesAsync(Path.Combine(content, "big"), data);
                for (int i = 0; i < 200; i++)
                {
                    await File.WriteAllTextAsync(Path.Combine(content, $"small{i}"), $"content {i}");
                }
            }
            finally
            {
                await RunAsync("umount", content);
            }

            await RunAsync("fsck.ext4", "-f", "-n", loop);
            await RunAsync("mount", "-o", "ro", loop, content);
            try
            {
                Assert.Equal(SHA256.HashData(data), SHA256.HashData(await File.ReadAllBytesAsync(Path.Combine(content, "big"))));
                Assert.Equal("content 199", await File.ReadAllTextAsync(Path.Combine(content, "small199")));
            }
            finally
            {
                await RunAsync("umount", content);
            }
        }
        finally
        {
            await RunAsync("losetup", "--detach", loop);
        }
    }

    private static async Task<long> BlocksAsync(string path) =>
        long.Parse(await RunAsync("stat", "--format=%b", path), System.Globalization.CultureInfo.InvariantCulture);

    private static async Task<string> RunAsync(string program, params string[] arguments) =>
        (await ToolProcess.RunAsync(Requirements.FindTool(program) ?? program, arguments)).MustSucceed().Output;
}
