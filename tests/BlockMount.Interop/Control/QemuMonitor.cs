using System.Diagnostics;
using BlockMount.Control.Json;
using BlockMount.TestSupport;

namespace BlockMount.Interop.Control;

/// <summary>qemu-storage-daemon with a monitor on its standard streams. Ended, with what it holds, on disposal.</summary>
internal sealed class QemuMonitor : IAsyncDisposable
{
    private readonly Process _process;

    private QemuMonitor(Process process) => _process = process;

    /// <summary>Starts it; the greeting waits to be read.</summary>
    public static QemuMonitor Start(params string[] options)
    {
        Process process = ToolProcess.Start(
            Requirements.FindTool("qemu-storage-daemon") ?? throw new InvalidOperationException("qemu-storage-daemon is not installed"),
            [.. options, "--chardev", "stdio,id=c", "--monitor", "chardev=c"]);
        return new QemuMonitor(process);
    }

    /// <summary>To and from the monitor.</summary>
    public MonitorPeer Peer() => new(_process.StandardOutput.BaseStream, _process.StandardInput.BaseStream);

    /// <summary>What a command of a monitor without options returns.</summary>
    public static async Task<JsonValue> AskOnceAsync(string command)
    {
        await using QemuMonitor monitor = Start();
        MonitorPeer peer = monitor.Peer();
        _ = await peer.ReceiveAsync();
        await peer.SendAsync("{'execute':'qmp_capabilities'}"u8.ToArray());
        _ = await peer.ReceiveAsync();
        await peer.SendAsync(System.Text.Encoding.ASCII.GetBytes($"{{'execute':'{command}'}}"));
        return ((JsonObject)await peer.ReceiveAsync())["return"];
    }

    public async ValueTask DisposeAsync()
    {
        _process.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
    }
}
