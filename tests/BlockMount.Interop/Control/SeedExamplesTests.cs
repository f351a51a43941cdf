using System.Diagnostics;
using System.Text.Json.Nodes;
using BlockMount.Interop.Cli;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Control;

/// <summary>
/// The examples that users wrote down, as they stand there, those that need neither a job nor a bitmap (FEATURES §1). Names of files and devices are theirs; where one shows
/// only the line of a shell, the line is given to our shell.
/// </summary>
public sealed class SeedExamplesTests : CliFixture
{
    private Process? _daemon;

    // Seed 000: QMP at a TCP port, then the human monitor inside of it.
    [RequiresReleaseFact("qemu-img")]
    public async Task QmpAndHmpOfTheBlog()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["win2003.qcow2"], "1M");
        (await RunAsync(this["win2003.qcow2"], this["m"], "--qmp", this["q"])).MustSucceed();
        string greeting = await RawAsync("");
        Assert.StartsWith("""{"QMP": {"version": {"qemu": {""", greeting, StringComparison.Ordinal);
        string[] answers = (await RawAsync("""
            {"execute": "qmp_capabilities"}
            {"execute":"query-blockstats"} { "execute": "human-monitor-command", "arguments": { "command-line": "info block" } }
            { "execute": "query-block-jobs", "arguments": {} }
            { "execute": "block-job-set-speed", "arguments":
                {"device":drive0,"speed":2097152}
            }
            """)).Split('\n', StringSplitOptions.RemoveEmptyEntries)[1..];
        Assert.Equal("""{"return": {}}""", answers[0]);
        Assert.Equal("drive0", JsonNode.Parse(answers[1])!["return"]![0]!["device"]!.GetValue<string>());
        string info = JsonNode.Parse(answers[2])!["return"]!.GetValue<string>();
        Assert.StartsWith($"drive0 (node0): {this["win2003.qcow2"]} (qcow2)\r\n", info, StringComparison.Ordinal);
        // A job needs the job engine.
        Assert.Contains("""{"error": {"class": "CommandNotFound", "desc": "The command query-block-jobs has not been found"}}""", answers);
        // Without quotes, as printed.
        Assert.Contains("""{"error": {"class": "GenericError", "desc": "JSON parse error, invalid keyword 'drive'"}}""", answers);
        Assert.Equal("", await LineAsync("snapshot_blkdev drive0 " + this["win.snap"]));
        Assert.Contains(this["win.snap"], await LineAsync("info block"), StringComparison.Ordinal);
        Assert.Equal("No active jobs\n", await LineAsync("info block-jobs"));
    }

    // Seeds 003 and 004.
    [RequiresReleaseFact("qemu-img")]
    public async Task LiveBlockCopyBegins()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["a.qcow2"], "1M");
        (await RunAsync(this["a.qcow2"], this["m"], "--id", "ide0-hd0", "--qmp", this["q"])).MustSucceed();
        _ = Directory.CreateDirectory(this["new-path"]);
        Assert.Equal("", await LineAsync($"snapshot_blkdev ide0-hd0 {this["new-path"]}/disk.img qcow2"));
        (await RunAsync("umount", this["m"])).MustSucceed();
        Assert.Contains($"backing file: {this["a.qcow2"]}", (await ToolProcess.RunAsync("qemu-img", "info", $"{this["new-path"]}/disk.img")).MustSucceed().Output, StringComparison.Ordinal);
    }

    // Seed 001.
    [RequiresReleaseFact("qemu-img")]
    public async Task ChangeOf2011()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["a.qcow2"], "1M");
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["vm_1.img"], "2M");
        File.WriteAllBytes(this["dvd.iso"], [.. Enumerable.Repeat((byte)7, 3 << 20)]);
        (await RunAsync(this["a.qcow2"], this["m"], "--id", "virtio-blk0", "--qmp", this["q"])).MustSucceed();
        string[] answers = await ExecuteAsync(
            $$"""
            { "execute": "change",
                         "arguments": { "device": "virtio-blk0",
                                        "target": "{{this["vm_1.img"]}}",
                                        "notify": false } }
            """,
            """
            { "execute": "change",
                         "arguments": { "device": "vnc", "target": "password",
                                        "arg": "foobar1" } }
            """);
        Assert.Equal("""{"return": {}}""", answers[0]);
        Assert.Equal(2 << 20, new FileInfo(this["m"]).Length);
        Assert.StartsWith("""{"error": """, answers[1], StringComparison.Ordinal);
    }

    // Seed 002b: the chain [A] <- [B] <- [C] <- [D], a target, the NBD server of a migration, and the end.
    [RequiresReleaseFact("qemu-img")]
    public async Task LiveBlockOperations()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["a.qcow2"], "39M");
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["e.qcow2"], "39M");
        StartDaemon(
            "--blockdev", "node-name=node-A,driver=qcow2,file.driver=file,file.node-name=file,file.filename=./a.qcow2",
            "--nbd-server", $"addr.type=unix,addr.path={this["n"]}",
            "--export", "nbd,id=virtio0,node-name=node-A,writable=on",
            "--chardev", $"socket,path={this["q"]},server,nowait,id=c", "--monitor", "chardev=c");
        await ShellAsync("blockdev-snapshot-sync node-name=node-A snapshot-file=b.qcow2 snapshot-node-name=node-B format=qcow2");
        await ShellAsync("blockdev-snapshot-sync node-name=node-B snapshot-file=c.qcow2 snapshot-node-name=node-C format=qcow2");
        string[] answers = await ExecuteAsync(
            """
             {
             "execute": "blockdev-snapshot-sync",
             "arguments": {
             "node-name": "node-C",
             "snapshot-file": "d.qcow2",
             "format": "qcow2",
             "snapshot-node-name": "node-D"
             }
             }
            """,
            """
             {
             "execute": "blockdev-add",
             "arguments": {
             "node-name": "node-E",
             "driver": "qcow2",
             "file": {
             "driver": "file",
             "filename": "e.qcow2"
             }
             }
             }
            """,
            """
             {
             "execute": "nbd-server-stop",
             "arguments": {}
             }
            """);
        Assert.Equal(3, answers.Count(answer => answer == """{"return": {}}"""));
        // A free port of this machine in the place of 49153 of all.
        await ShellAsync("""nbd-server-start addr={"type":"inet","data":{"host":"::1","port":"0"}}""");
        await ShellAsync("nbd-server-add device=node-D writable=true");
        await ShellAsync("nbd-server-stop");
        await ShellAsync("cont");
        await ShellAsync("quit");
        await _daemon!.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(20));
        Assert.Equal(0, _daemon.ExitCode);
        Assert.False(File.Exists(this["q"]));
        string info = (await ToolProcess.RunAsync("qemu-img", "info", "--backing-chain", this["d.qcow2"])).MustSucceed().Output;
        Assert.Equal(["c.qcow2", "b.qcow2", "./a.qcow2"], info.Split('\n').Where(line => line.StartsWith("backing file: ", StringComparison.Ordinal)).Select(line => line.Split(' ')[2]));
        foreach (string image in new[] { "a.qcow2", "b.qcow2", "c.qcow2", "d.qcow2", "e.qcow2" })
        {
            Assert.Equal(0, (await QemuImg.CheckAsync(this[image])).ExitCode);
        }
    }

    /// <summary>Ends a daemon that a failed test has left.</summary>
    public override async Task DisposeAsync()
    {
        if (_daemon is { HasExited: false })
        {
            await KillAsync(_daemon.Id);
        }

        _daemon?.Dispose();
        await base.DisposeAsync();
    }

    // Started where the names of the examples are.
    private void StartDaemon(params string[] options)
    {
        _daemon = Process.Start(new ProcessStartInfo(ReleaseBinary.FullPath, ["daemon", .. options]) { WorkingDirectory = Folder.FullPath })!;
        Assert.True(SpinWait.SpinUntil(() => File.Exists(this["q"]) || _daemon.HasExited, TimeSpan.FromSeconds(20)) && !_daemon.HasExited);
    }

    private async Task ShellAsync(string line) => (await RunAsync(["qmp", this["q"], .. line.Split(' ')])).MustSucceed();

    private async Task<string> LineAsync(string line) => (await RunAsync("monitor", this["q"], line)).MustSucceed().Output;

    private async Task<string[]> ExecuteAsync(params string[] messages) => [.. (await RawAsync("{\"execute\": \"qmp_capabilities\"}" + string.Concat(messages)))
        .Split('\n', StringSplitOptions.RemoveEmptyEntries)[2..].Where(line => !line.Contains("\"event\"", StringComparison.Ordinal))];

    // What comes back until the monitor has answered all of it.
    private async Task<string> RawAsync(string text)
    {
        using System.Net.Sockets.Socket socket = new(System.Net.Sockets.AddressFamily.Unix, System.Net.Sockets.SocketType.Stream, System.Net.Sockets.ProtocolType.Unspecified);
        await socket.ConnectAsync(new System.Net.Sockets.UnixDomainSocketEndPoint(this["q"]));
        await using System.Net.Sockets.NetworkStream stream = new(socket);
        await stream.WriteAsync(System.Text.Encoding.UTF8.GetBytes(text));
        // The monitor answers everything that came before the end of its input.
        socket.Shutdown(System.Net.Sockets.SocketShutdown.Send);
        using StreamReader reader = new(stream);
        return (await reader.ReadToEndAsync().WaitAsync(TimeSpan.FromSeconds(20))).Replace("\r", "", StringComparison.Ordinal);
    }
}
