using System.Text.Json;
using BlockMount.Interop.Cli;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Control;

/// <summary>Exports that a monitor adds to a running mount and ends again, used by QEMU's NBD client.</summary>
public sealed class ExportCommandTests : CliFixture
{
    [RequiresReleaseFact("qemu-img", "qemu-io", "nbdinfo")]
    public async Task ADeviceIsServedOverNbdBesideItsMount()
    {
        await MountAsync();
        Assert.Contains("NBD server not running", (await FailingAsync("nbd-server-add", "device=drive0")), StringComparison.Ordinal);
        await QmpAsync("nbd-server-start", $"addr={{\"type\":\"unix\",\"data\":{{\"path\":\"{this["n"]}\"}}}}");
        Assert.Contains("NBD server already running", (await FailingAsync("nbd-server-start", $"addr={{\"type\":\"unix\",\"data\":{{\"path\":\"{this["n2"]}\"}}}}")), StringComparison.Ordinal);
        await QmpAsync("block-export-add", "type=nbd", "id=e0", "node-name=drive0", "name=disk", "writable=true");
        await QmpAsync("nbd-server-add", "device=drive0");
        Assert.Contains("already in use", (await FailingAsync("block-export-add", "type=nbd", "id=e0", "node-name=drive0")), StringComparison.Ordinal);
        Assert.Contains("already has export named 'disk'", (await FailingAsync("block-export-add", "type=nbd", "id=e1", "node-name=drive0", "name=disk")), StringComparison.Ordinal);
        Assert.Equal(["mount", "e0", "drive0"], await IdsAsync());

        string uri = $"nbd+unix:///disk?socket={this["n"]}";
        (await ToolProcess.RunAsync("qemu-io", "-f", "raw", "-c", "write -P 7 64k 64k", "-c", "flush", uri)).MustSucceed();
        byte[] seen = new byte[64 << 10];
        await using (FileStream file = new(this["m"], FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0))
        {
            _ = RandomAccess.Read(file.SafeFileHandle, seen, 64 << 10);
        }

        Assert.All(seen, value => Assert.Equal(7, value));
        ToolResult readOnly = await ToolProcess.RunAsync("nbdinfo", "--json", $"nbd+unix:///drive0?socket={this["n"]}");
        Assert.Contains("\"is_read_only\": true", readOnly.MustSucceed().Output, StringComparison.Ordinal);

        await QmpAsync("block-export-del", "id=e0");
        await UntilAsync(async () => (await IdsAsync()).Length == 2);
        Assert.Contains("Export 'e0' is not found", (await FailingAsync("block-export-del", "id=e0")), StringComparison.Ordinal);
        await QmpAsync("nbd-server-stop");
        await UntilAsync(async () => (await IdsAsync()).Length == 1);
        Assert.False(File.Exists(this["n"]));
        Assert.Contains("NBD server not running", (await FailingAsync("nbd-server-stop")), StringComparison.Ordinal);
    }

    [RequiresReleaseFact("qemu-img", "qemu-io")]
    public async Task AnExportInUseEndsOnlyByForce()
    {
        await MountAsync();
        Assert.Equal("", (await MonitorAsync($"nbd_server_start -a -w unix:{this["n"]}")));
        await using Client client = await Client.ConnectAsync($"nbd+unix:///drive0?socket={this["n"]}");
        Assert.Contains("export 'drive0' still in use", (await FailingAsync("block-export-del", "id=drive0")), StringComparison.Ordinal);
        Assert.Equal("", await MonitorAsync("nbd_server_remove -f drive0"));
        await UntilAsync(async () => (await IdsAsync()).Length == 1);
    }

    [RequiresReleaseFact("qemu-img", "qemu-io")]
    public async Task TheServerOfAFrozenDeviceStopsAndTheMonitorGoesOn()
    {
        await MountAsync();
        Assert.Equal("", await MonitorAsync($"nbd_server_start -a -w unix:{this["n"]}"));
        await QmpAsync("stop");
        using System.Diagnostics.Process writer = System.Diagnostics.Process.Start(
            "qemu-io", ["-f", "raw", "-c", "write -P 7 0 64k", $"nbd+unix:///drive0?socket={this["n"]}"]);
        await Task.Delay(500);
        Assert.False(writer.HasExited);
        System.Diagnostics.Stopwatch watch = System.Diagnostics.Stopwatch.StartNew();
        await QmpAsync("nbd-server-stop");
        Assert.InRange(watch.Elapsed, TimeSpan.Zero, TimeSpan.FromSeconds(15));
        await QmpAsync("cont");
        await writer.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(20));
        await UntilAsync(async () => (await IdsAsync()).Length == 1);
        await QmpAsync("nbd-server-start", $"addr={{\"type\":\"unix\",\"data\":{{\"path\":\"{this["n"]}\"}}}}");
    }

    [RequiresReleaseFact("qemu-img")]
    public async Task ADeviceIsShownAsASecondFile()
    {
        await MountAsync();
        Assert.Contains("Failed to stat", (await FailingAsync("block-export-add", "type=fuse", "id=f", "node-name=drive0", $"mountpoint={this["m2"]}")), StringComparison.Ordinal);
        await File.WriteAllTextAsync(this["m2"], "below");
        await QmpAsync("block-export-add", "type=fuse", "id=f", "node-name=drive0", $"mountpoint={this["m2"]}", "writable=true");
        await using (FileStream file = new(this["m2"], FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0))
        {
            await file.WriteAsync("through the second file"u8.ToArray());
        }

        await using (FileStream file = new(this["m"], FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0))
        {
            byte[] seen = new byte[23];
            await file.ReadExactlyAsync(seen);
            Assert.Equal("through the second file"u8.ToArray(), seen);
        }

        await QmpAsync("block-export-del", "id=f");
        await UntilAsync(async () => (await IdsAsync()).Length == 1);
        Assert.Equal("below", await File.ReadAllTextAsync(this["m2"]));
        (await RunAsync("umount", this["m"])).MustSucceed();
    }

    private async Task MountAsync()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["a"], "1M");
        (await RunAsync(this["a"], this["m"], "--qmp", this["q"])).MustSucceed();
    }

    private async Task QmpAsync(params string[] words) => (await RunAsync(["qmp", this["q"], .. words])).MustSucceed();

    private async Task<string> MonitorAsync(string line) => (await RunAsync(["monitor", this["q"], .. line.Split(' ')])).MustSucceed().Output;

    private async Task<string> FailingAsync(params string[] words)
    {
        ToolResult result = await RunAsync(["qmp", this["q"], .. words]);
        Assert.Equal(1, result.ExitCode);
        return result.Error;
    }

    private async Task<string[]> IdsAsync()
    {
        ToolResult result = (await RunAsync("qmp", this["q"], "query-block-exports")).MustSucceed();
        using JsonDocument document = JsonDocument.Parse(result.Output);
        return [.. document.RootElement.EnumerateArray().Select(export => export.GetProperty("id").GetString()!)];
    }

    private static async Task UntilAsync(Func<Task<bool>> condition)
    {
        for (int i = 0; !await condition(); i++)
        {
            Assert.True(i < 100, "waited in vain");
            await Task.Delay(50);
        }
    }

    /// <summary>A qemu-io that stays connected until it is disposed.</summary>
    private sealed class Client(System.Diagnostics.Process process) : IAsyncDisposable
    {
        public static async Task<Client> ConnectAsync(string uri)
        {
            System.Diagnostics.ProcessStartInfo start = new("/bin/sh", ["-c", $"(echo read 0 512; sleep 60) | qemu-io -f raw '{uri}'"]) { RedirectStandardOutput = true };
            Client client = new(System.Diagnostics.Process.Start(start)!);
            await client.ReadyAsync();
            return client;
        }

        public async ValueTask DisposeAsync()
        {
            process.Kill(entireProcessTree: true);
            await process.WaitForExitAsync();
            process.Dispose();
        }

        private async Task ReadyAsync()
        {
            while (await process.StandardOutput.ReadLineAsync() is { } line && !line.Contains("read 512", StringComparison.Ordinal))
            {
            }
        }
    }
}
