using System.Diagnostics;
using System.Text;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Daemon;

/// <summary>Scripts written for qemu-storage-daemon run unchanged: each is given to both, and what is served is compared.</summary>
public sealed class StorageDaemonTests
{
    private const int SigInt = 2;
    private const int SigTerm = 15;

    private const string Socket = "--nbd-server|addr.type=unix,addr.path={dir}/s|";

    [RequiresTheory(Needs.Release, "qemu-storage-daemon", "qemu-img", "nbdcopy", "nbdinfo")]
    [InlineData("--blockdev|driver=file,node-name=f,filename={dir}/a.raw|" + Socket + "--export|type=nbd,id=e,node-name=f", "f")]
    [InlineData("--blockdev|file,node-name=f,filename={dir}/a.raw|" + Socket + "--export|nbd,id=f,node-name=f,writable=on", "f")]
    [InlineData("--blockdev|file,node-name=f,filename={dir}/a.raw|--blockdev|raw,node-name=r,file=f,offset=65536,size=131072|" + Socket + "--export|nbd,id=e,node-name=r,name=x y", "x y")]
    [InlineData("--blockdev|qcow2,node-name=q,file.driver=file,file.filename={dir}/top.qcow2|" + Socket + "--export|nbd,id=drive0,node-name=q,name=disk,description=a disk", "disk")]
    [InlineData("--blockdev|{\"driver\":\"file\",\"node-name\":\"f\",\"filename\":\"{dir}/top.qcow2\"}|--blockdev|{\"driver\":\"qcow2\",\"node-name\":\"q\",\"file\":\"f\"}|--nbd-server|{\"addr\":{\"type\":\"unix\",\"path\":\"{dir}/s\"}}|--export|{\"type\":\"nbd\",\"id\":\"e\",\"node-name\":\"q\"}", "q")]
    [InlineData("--object|throttle-group,id=t,limits.bps-total=100000000|--blockdev|file,node-name=f,filename={dir}/a.raw,read-only=on|--blockdev|throttle,node-name=t1,file=f,throttle-group=t,read-only=on|" + Socket + "--export|nbd,id=e,node-name=t1", "t1")]
    [InlineData("--nbd-server=addr.type=unix,addr.path={dir}/s,max-connections=3|--object|iothread,id=i|--blockdev=file,node-name=f,filename={dir}/a.raw|--export=nbd,id=e,node-name=f", "f")]
    [InlineData("--object|secret,id=k,data=x|--blockdev|null-co,node-name=n,size=1048576,read-zeroes=on|" + Socket + "--export|nbd,id=e,node-name=n", "n")]
    public async Task TheSameBytesAreServed(string line, string export)
    {
        string[] options = line.Split('|', StringSplitOptions.RemoveEmptyEntries);
        using StorageDaemon ours = new(ours: true);
        using StorageDaemon theirs = new(ours: false);
        string found = await ServedAsync(ours, options, export);
        Assert.Equal(await ServedAsync(theirs, options, export), found);
        Assert.Equal(["a.raw", "top.qcow2"], Files(ours));
    }

    [RequiresTheory(Needs.Release, "qemu-img")]
    [InlineData(SigInt)]
    [InlineData(SigTerm)]
    public async Task ASignalEndsItWithNothingLeftBehind(int signal)
    {
        using StorageDaemon daemon = new(ours: true);
        await MakeImagesAsync(daemon);
        await daemon.StartInBackgroundAsync(
            "--blockdev", "file,node-name=f,filename={dir}/a.raw", "--chardev", "socket,id=c,path={dir}/m,server=on,wait=off", "--monitor", "c",
            // Not compared with QEMU 7.2: there the daemon dies with the first client of an export that has an iothread.
            "--object", "iothread,id=i", "--nbd-server", "addr.type=unix,addr.path={dir}/s", "--export", "nbd,id=e,node-name=f,writable=on,iothread=i");
        foreach (string name in (string[])["m", "s", "pid"])
        {
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(daemon[name]) & (UnixFileMode)0x1B6);
        }

        await daemon.EndAsync(signal);
        Assert.Equal(["a.raw", "top.qcow2"], Files(daemon));
    }

    // As everything that a shell runs in the background.
    [RequiresFact(Needs.Release)]
    public async Task SigIntEndsItAlsoWhereTheStarterIgnoresThat()
    {
        using StorageDaemon daemon = new(ours: true);
        (await ToolProcess.RunAsync(
            "/bin/sh", "-c", $"trap '' INT; exec '{ReleaseBinary.FullPath}' daemon --blockdev null-co,node-name=n --daemonize --pidfile '{daemon["pid"]}'")).MustSucceed();
        await daemon.TakeOverAsync();
        await daemon.EndAsync(SigInt);
        Assert.False(File.Exists(daemon["pid"]));
    }

    [RequiresFact(Needs.Release, "qemu-storage-daemon", "qemu-img")]
    public async Task ASecondOneDoesNotGetThePidFile()
    {
        using StorageDaemon ours = new(ours: true);
        using StorageDaemon theirs = new(ours: false);
        (ToolResult second, ToolResult expected) = (await SecondAsync(ours), await SecondAsync(theirs));
        Assert.Equal(theirs.FirstLine(expected), ours.FirstLine(second));
        Assert.Equal(expected.ExitCode, second.ExitCode);
    }

    [RequiresFact(Needs.Release, "qemu-img", "qemu-io", "nbdinfo")]
    public async Task AnExportsIdIsADeviceThatFollowsSnapshots()
    {
        using StorageDaemon daemon = new(ours: true);
        await MakeImagesAsync(daemon);
        await daemon.StartInBackgroundAsync(
            "--blockdev", "qcow2,node-name=node0,file.driver=file,file.filename={dir}/top.qcow2", "--chardev", "socket,id=c,path={dir}/m,server=on,wait=off", "--monitor", "c",
            "--nbd-server", "addr.type=unix,addr.path={dir}/s", "--export", "nbd,id=drive0,node-name=node0,name=disk,writable=on");
        await QmpAsync(daemon, "blockdev-snapshot-sync", "device=drive0", $"snapshot-file={daemon["overlay.qcow2"]}", "snapshot-node-name=over");
        string uri = $"nbd+unix:///disk?socket={daemon["s"]}";
        (await ToolProcess.RunAsync("qemu-io", "-f", "raw", "-c", "write -P 7 64k 64k", uri)).MustSucceed();
        await QmpAsync(daemon, "block-export-add", "type=nbd", "id=second", "node-name=node0");
        Assert.Contains("\"device\": \"second\"", await QmpAsync(daemon, "query-block"), StringComparison.Ordinal);
        Assert.Contains("\"node-name\": \"over\"", await QmpAsync(daemon, "query-block-exports"), StringComparison.Ordinal);
        await QmpAsync(daemon, "block-export-del", "id=second");
        Assert.DoesNotContain("\"device\": \"second\"", await QmpAsync(daemon, "query-block"), StringComparison.Ordinal);
        await QmpAsync(daemon, "quit");
        await daemon.UntilGoneAsync();
        Assert.Equal(["a.raw", "overlay.qcow2", "top.qcow2"], Files(daemon));
        (await ToolProcess.RunAsync("qemu-io", "-f", "qcow2", "-r", "-c", "read -P 7 64k 64k", daemon["overlay.qcow2"])).MustSucceed();
        (await ToolProcess.RunAsync("qemu-img", "check", daemon["overlay.qcow2"])).MustSucceed();
    }

    [RequiresTheory(Needs.Release, "qemu-storage-daemon")]
    [InlineData(true)]
    [InlineData(false)]
    public async Task NothingButProtocolIsWrittenToAStdioMonitor(bool ours)
    {
        using StorageDaemon daemon = new(ours);
        using Process process = daemon.Start(
            "--object", "throttle-group,id=t,x-iops-total=7", "--chardev", "stdio,id=c", "--monitor", "c", "--pidfile", "{dir}/pid");
        await process.StandardInput.WriteAsync("""
            {"execute":"qmp_capabilities"}
            {"execute":"query-chardev"}
            {"execute":"qom-get","arguments":{"path":"/objects/t","property":"x-iops-total"}}
            {"execute":"object-del","arguments":{"id":"t"}}
            {"execute":"object-del","arguments":{"id":"t"}}
            {"execute":"quit"}
            """);
        await process.StandardInput.FlushAsync();
        string output = await process.StandardOutput.ReadToEndAsync().WaitAsync(TimeSpan.FromSeconds(30));
        await process.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(30));
        string[] lines = [.. output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => !line.Contains("\"event\"", StringComparison.Ordinal))];
        Assert.StartsWith("{\"QMP\":", lines[0], StringComparison.Ordinal);
        Assert.Equal(
            [
                """{"return": {}}""", """{"return": [{"frontend-open": true, "filename": "stdio", "label": "c"}]}""", """{"return": 7}""", """{"return": {}}""",
                """{"error": {"class": "GenericError", "desc": "object 't' not found"}}""", """{"return": {}}""",
            ],
            lines[1..].Select(line => line.TrimEnd('\r')));
        Assert.Equal("", await process.StandardError.ReadToEndAsync());
        Assert.Equal(0, process.ExitCode);
        Assert.Empty(Files(daemon));
    }

    private static async Task<string> ServedAsync(StorageDaemon daemon, string[] options, string export)
    {
        await MakeImagesAsync(daemon);
        await daemon.StartInBackgroundAsync(options);
        string uri = $"nbd+unix:///{Uri.EscapeDataString(export)}?socket={daemon["s"]}";
        string size = (await ToolProcess.RunAsync("nbdinfo", "--size", uri)).MustSucceed().Output;
        string readOnly = (await ToolProcess.RunAsync("nbdinfo", "--is", "read-only", uri)).ExitCode.ToString(System.Globalization.CultureInfo.InvariantCulture);
        (await ToolProcess.RunAsync("nbdcopy", uri, daemon["copy"])).MustSucceed();
        string hash = Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(await File.ReadAllBytesAsync(daemon["copy"])));
        File.Delete(daemon["copy"]);
        await daemon.EndAsync(SigTerm);
        return $"{size.Trim()} {readOnly} {hash}";
    }

    private static async Task<string> QmpAsync(StorageDaemon daemon, params string[] command) =>
        (await ReleaseBinary.RunAsync(["qmp", daemon["m"], .. command])).MustSucceed().Output;

    private static async Task<ToolResult> SecondAsync(StorageDaemon daemon)
    {
        await daemon.StartInBackgroundAsync();
        ToolResult second = await daemon.RunAsync("--pidfile", "{dir}/pid");
        await daemon.EndAsync(SigTerm);
        return second;
    }

    private static async Task MakeImagesAsync(StorageDaemon daemon)
    {
        byte[] content = Encoding.ASCII.GetBytes(string.Concat(Enumerable.Range(0, 100_000).Select(i => $"{i:x6}\n")));
        Array.Resize(ref content, 1 << 20);
        await File.WriteAllBytesAsync(daemon["a.raw"], content);
        (await ToolProcess.RunAsync("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", daemon["a.raw"], daemon["top.qcow2"], "2M")).MustSucceed();
    }

    private static string[] Files(StorageDaemon daemon) => [.. Directory.GetFileSystemEntries(daemon[""]).Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal)];
}
