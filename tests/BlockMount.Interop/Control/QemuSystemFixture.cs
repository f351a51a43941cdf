using System.Diagnostics;
using System.Net.Sockets;
using System.Text;
using BlockMount.Control.Json;
using BlockMount.Interop.Cli;
using BlockMount.TestSupport;

namespace BlockMount.Interop.Control;

/// <summary>
/// A monitor of qemu-system-x86_64, without a guest, and one of the release binary. Both serve top.qcow2, on base.qcow2, as device drive0 with node node0, in a folder of their own,
/// where other.qcow2 and other.raw lie as well.
/// </summary>
public abstract class QemuSystemFixture : CliFixture
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(20);

    /// <summary>Has the same exchange with both.</summary>
    private protected async Task<(string[] Theirs, string[] Ours)> WithBothAsync(Func<SystemMonitor, Task<string[]>> exchange) =>
        (await WithQemuAsync(exchange), await WithOursAsync(exchange));

    // What the disk tool and the maker of images say goes to QEMU's standard output, at once without the buffer.
    private async Task<string[]> WithQemuAsync(Func<SystemMonitor, Task<string[]>> exchange)
    {
        string folder = await PrepareAsync("theirs");
        string output = Path.Combine(folder, "output");
        string qmp = Path.Combine(folder, "q");
        using Process process = ToolProcess.Start(
            "/bin/sh", "-c",
            $"exec stdbuf -o0 qemu-system-x86_64 -M none -nodefaults -display none -qmp unix:{qmp},server=on,wait=off "
            + $"-drive if=none,id=drive0,node-name=node0,file={folder}/top.qcow2,format=qcow2,discard=unmap >{output} 2>&1");
        try
        {
            return await ExchangeAsync(qmp, folder, output, exchange);
        }
        finally
        {
            process.Kill();
            await process.WaitForExitAsync();
        }
    }

    private async Task<string[]> WithOursAsync(Func<SystemMonitor, Task<string[]>> exchange)
    {
        string folder = await PrepareAsync("ours");
        string qmp = Path.Combine(folder, "q");
        (await RunAsync(Path.Combine(folder, "top.qcow2"), Path.Combine(folder, "m"), "--qmp", qmp)).MustSucceed();
        return await ExchangeAsync(qmp, folder, output: null, exchange);
    }

    private async Task<string> PrepareAsync(string name)
    {
        string folder = this[name];
        _ = Directory.CreateDirectory(folder);
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", $"{folder}/base.qcow2", "2M");
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-b", $"{folder}/base.qcow2", "-F", "qcow2", $"{folder}/top.qcow2");
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on,cluster_size=4k", $"{folder}/other.qcow2", "1M");
        await QemuImg.RunAsync("create", "-q", "-f", "raw", $"{folder}/other.raw", "1M");
        return folder;
    }

    private static async Task<string[]> ExchangeAsync(string qmp, string folder, string? output, Func<SystemMonitor, Task<string[]>> exchange)
    {
        using Socket socket = await ConnectAsync(qmp);
        await using NetworkStream stream = new(socket);
        SystemMonitor monitor = new(new MonitorPeer(stream, stream), folder, output);
        await monitor.NegotiateAsync();
        return await exchange(monitor);
    }

    private static async Task<Socket> ConnectAsync(string path)
    {
        for (Stopwatch watch = Stopwatch.StartNew(); ; await Task.Delay(20))
        {
            Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            try
            {
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(path));
                return socket;
            }
            catch (SocketException) when (watch.Elapsed < s_limit)
            {
                // The program is starting.
                socket.Dispose();
            }
        }
    }
}

/// <summary>A client of such a monitor.</summary>
/// <param name="folder">Stands for FOLDER in messages, and the other way round in answers.</param>
/// <param name="output">Where the monitor's program writes what is no part of its answers; null if it does not.</param>
internal sealed class SystemMonitor(MonitorPeer peer, string folder, string? output)
{
    private int _outputRead;

    public async Task NegotiateAsync()
    {
        _ = await peer.ReceiveAsync();
        _ = await AskAsync(new JsonObject { ["execute"] = "qmp_capabilities" });
    }

    /// <summary>What a message is answered with, events left out.</summary>
    public async Task<JsonObject> AskAsync(JsonObject message)
    {
        await peer.SendAsync(Encoding.UTF8.GetBytes(message.ToString().Replace("FOLDER", folder, StringComparison.Ordinal)));
        while (true)
        {
            JsonObject answer = (JsonObject)await peer.ReceiveAsync();
            if (!answer.Contains("event"))
            {
                return answer;
            }
        }
    }

    /// <summary>What a line of the human monitor is answered with, and what was written meanwhile.</summary>
    public async Task<string> AskLineAsync(string line)
    {
        JsonObject answer = await AskAsync(new JsonObject
        {
            ["execute"] = "human-monitor-command",
            ["arguments"] = new JsonObject { ["command-line"] = line },
        });
        string written = output is null ? "" : await ReadOutputAsync(output);
        string text = written[_outputRead..] + answer.Text("return");
        _outputRead = written.Length;
        return Anonymous(text);
    }

    /// <summary>A text without the folder's name.</summary>
    public string Anonymous(string text) => text.Replace(folder, "FOLDER", StringComparison.Ordinal);

    private static async Task<string> ReadOutputAsync(string path)
    {
        await using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        using StreamReader reader = new(file);
        return await reader.ReadToEndAsync();
    }
}
