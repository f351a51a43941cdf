using System.Net.Sockets;
using System.Text.Json;
using BlockMount.Interop.Cli;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Control;

/// <summary>The monitors of a running daemon, through the release binary: by its own client, by a plain socket, and in the terminal's place.</summary>
public sealed class MonitorTests : CliFixture
{
    [RequiresReleaseFact("qemu-img")]
    public async Task AMountIsControlledAndQuitEndsIt()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["base.qcow2"], "8M");
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-b", this["base.qcow2"], "-F", "qcow2", this["top.qcow2"]);
        (await RunAsync(this["top.qcow2"], this["m"], "--qmp", this["q"])).MustSucceed();
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(this["q"]));
        int pid = Assert.Single(await PidsAsync());

        JsonElement device = (await QmpAsync("query-block"))[0];
        Assert.Equal("drive0", device.GetProperty("device").GetString());
        Assert.Equal(1, device.GetProperty("inserted").GetProperty("backing_file_depth").GetInt32());
        Assert.Equal(4, (await QmpAsync("query-named-block-nodes")).GetArrayLength());
        Assert.Equal("fuse", (await QmpAsync("query-block-exports"))[0].GetProperty("type").GetString());

        _ = await QmpAsync("block_resize", "device=drive0", $"size={16 << 20}");
        Assert.Equal(16 << 20, new FileInfo(this["m"]).Length);
        _ = await QmpAsync("blockdev-snapshot-internal-sync", "device=drive0", "name=before");
        Assert.Contains("before", (await MonitorAsync("info", "snapshots")), StringComparison.Ordinal);
        Assert.Equal("before", (await QmpAsync("blockdev-snapshot-delete-internal-sync", "device=drive0", "name=before")).GetProperty("name").GetString());

        Assert.Equal(
            $"drive0 ({device.GetProperty("inserted").GetProperty("node-name").GetString()}): {device.GetProperty("inserted").GetProperty("file").GetString()} (qcow2)\n"
            + $"    Cache mode:       writeback\n    Backing file:     {this["base.qcow2"]} (chain depth: 1)\n",
            await MonitorAsync("info", "block"));
        ToolResult failed = await RunAsync("qmp", this["q"], "block_resize", "device=nope", "size=1");
        Assert.Equal(1, failed.ExitCode);
        Assert.Contains("Cannot find device='nope' nor node-name=''", failed.Error, StringComparison.Ordinal);

        _ = await QmpAsync("quit");
        await EndAsync(pid);
        Assert.False(File.Exists(this["q"]));
        Assert.False(File.Exists(this["m"]));
        await QemuImg.RunAsync("check", "-q", this["top.qcow2"]);
    }

    // Started in the background, and all the same: not in the root folder.
    [RequiresReleaseFact("qemu-img")]
    public async Task NamesInCommandsAreThoseOfTheFolderWhereTheDaemonWasStarted()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["a"], "1M");
        (await ToolProcess.RunAsync(
            "/bin/sh", "-c", $"cd '{Folder.FullPath}' && BLOCKMOUNT_RUNTIME_DIR='{this["run"]}' exec '{ReleaseBinary.FullPath}' a m --qmp q")).MustSucceed();
        _ = await QmpAsync("blockdev-snapshot-sync", "device=drive0", "snapshot-file=overlay");
        Assert.True(File.Exists(this["overlay"]));
    }

    [RequiresReleaseFact("qemu-img")]
    public async Task StopHoldsWritesBackAndContLetsThemGoOn()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["a"], "1M");
        (await RunAsync(this["a"], this["m"], "--qmp", this["q"])).MustSucceed();
        await using FileStream file = new(this["m"], FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0);
        await file.WriteAsync("before"u8.ToArray());
        _ = await QmpAsync("stop");
        Assert.False((await QmpAsync("query-status")).GetProperty("running").GetBoolean());
        Task writing = Task.Run(() => RandomAccess.Write(file.SafeFileHandle, "after!"u8, 0));
        byte[] seen = new byte[6];
        Assert.Equal(6, RandomAccess.Read(file.SafeFileHandle, seen, 0));
        Assert.Equal("before"u8.ToArray(), seen);
        await Task.Delay(300);
        Assert.False(writing.IsCompleted);
        _ = await QmpAsync("cont");
        await writing.WaitAsync(TimeSpan.FromSeconds(10));
        _ = RandomAccess.Read(file.SafeFileHandle, seen, 0);
        Assert.Equal("after!"u8.ToArray(), seen);
    }

    [RequiresReleaseFact("qemu-img")]
    public async Task AFrozenDeviceDoesNotKeepTheDaemonFromEnding()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["a"], "1M");
        (await RunAsync(this["a"], this["m"], "--qmp", this["q"])).MustSucceed();
        int pid = Assert.Single(await PidsAsync());
        await using FileStream file = new(this["m"], FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0);
        _ = await QmpAsync("stop");
        Task writing = Task.Run(() => RandomAccess.Write(file.SafeFileHandle, "held back"u8, 0));
        await Task.Delay(300);
        Assert.False(writing.IsCompleted);
        _ = await QmpAsync("quit");
        // It was taken, so it ends: with success, or cut off with the mount.
        _ = await Task.WhenAny(writing).WaitAsync(TimeSpan.FromSeconds(20));
        file.Dispose();
        await EndAsync(pid);
        Assert.Empty(await PidsAsync());
        await QemuImg.RunAsync("check", "-q", this["a"]);
    }

    [RequiresReleaseFact("qemu-img")]
    public async Task AThousandClientsThatLeaveInTheMiddleLeakNothing()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["a"], "1M");
        (await RunAsync(this["a"], this["m"], "--qmp", this["q"])).MustSucceed();
        int pid = Assert.Single(await PidsAsync());
        // The runtime opens descriptors of its own when it first has many clients.
        LeaveInTheMiddle(200);
        _ = await QmpAsync("query-block");
        int before = await DescriptorsAsync(pid, int.MaxValue);
        LeaveInTheMiddle(1000);
        Assert.InRange(await DescriptorsAsync(pid, before), 0, before);
        Assert.Equal(1, (await QmpAsync("query-block")).GetArrayLength());
    }

    [RequiresReleaseFact("qemu-img")]
    public async Task TheHumanMonitorAtStandardInputEndsTheDaemon()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["a"], "1M");
        ToolResult result = await ToolProcess.RunAsync(
            "/bin/sh", "-c", $"printf 'info version\\n\"\\n\"\\\\x\"\\nblock_resize drive0 2\\nblock_resize nope 2\\nblock_resize drive0\\nnope\\nquit\\n' | BLOCKMOUNT_RUNTIME_DIR={this["run"]} {ReleaseBinary.FullPath} {this["a"]} {this["m"]} --monitor stdio");
        Assert.Equal(0, result.ExitCode);
        string[] lines = [.. result.Output.Split('\n').Select(line => line.TrimEnd('\r')).Where(line => line.Length > 0)];
        Assert.Equal(
            [
                "(qemu) BlockMount",
                "(qemu) unterminated string",
                "(qemu) unsupported escape code: '\\x'",
                "(qemu) (qemu) Error: Cannot find device='nope' nor node-name=''",
                "(qemu) invalid size",
                "Try \"help block_resize\" for more information",
                "(qemu) unknown command: 'nope'",
            ],
            [.. lines.Skip(1).Select(line => line.StartsWith("(qemu) BlockMount", StringComparison.Ordinal) ? "(qemu) BlockMount" : line).Take(7)]);
        Assert.Contains("\"virtual-size\": 2097152", await QemuImg.RunAsync("info", "--output=json", this["a"]), StringComparison.Ordinal);
    }

    private void LeaveInTheMiddle(int count)
    {
        byte[] text = """{"execute":"qmp_capabilities"}{"execute":"query-block"}{"execute":"query-qmp-schema"}"""u8.ToArray();
        for (int i = 0; i < count; i++)
        {
            using Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            socket.Connect(new UnixDomainSocketEndPoint(this["q"]));
            _ = socket.Send(text.AsSpan(0, i % text.Length));
        }
    }

    // Waits a while until there are no more than so many, or until no socket of a client is left.
    private static async Task<int> DescriptorsAsync(int pid, int wanted)
    {
        int count = int.MaxValue;
        for (int i = 0; i < 100 && (count > wanted || wanted == int.MaxValue); i++)
        {
            await Task.Delay(50);
            int now = Directory.GetFiles($"/proc/{pid}/fd").Length;
            if (now == count)
            {
                break;
            }

            count = now;
        }

        return count;
    }

    private async Task<JsonElement> QmpAsync(params string[] words)
    {
        ToolResult result = (await RunAsync(["qmp", this["q"], .. words])).MustSucceed();
        return JsonDocument.Parse(result.Output).RootElement;
    }

    private async Task<string> MonitorAsync(params string[] words) => (await RunAsync(["monitor", this["q"], .. words])).MustSucceed().Output;

    private static async Task EndAsync(int pid)
    {
        for (int i = 0; i < 200 && Directory.Exists($"/proc/{pid}") && !File.ReadAllText($"/proc/{pid}/stat").Contains(") Z", StringComparison.Ordinal); i++)
        {
            await Task.Delay(50);
        }
    }
}
