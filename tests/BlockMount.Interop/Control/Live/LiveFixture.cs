using System.Globalization;
using BlockMount.Control.Json;
using BlockMount.Interop.Cli;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Control.Live;

/// <summary>
/// A mount with a monitor and an NBD export of the same device, for tests that change the graph under load. <see cref="Strict"/> (BLOCKMOUNT_STRICT=1) holds the times to what
/// is promised on a quiet machine; without it the bounds are such that a busy machine keeps them.
/// </summary>
public abstract class LiveFixture : CliFixture
{
    /// <summary>What is below the mount, in bytes.</summary>
    protected const int Size = 8 << 20;

    /// <summary>A thread's part of it.</summary>
    protected const int Area = 1 << 20;

    private readonly List<string> _layers = [];
    private int _pid;

    /// <summary>True if times are held to what is promised.</summary>
    protected static bool Strict { get; } = Environment.GetEnvironmentVariable("BLOCKMOUNT_STRICT") == "1";

    /// <summary>No reply of a monitor later than this.</summary>
    protected static double ReplyMsMax => Strict ? 100 : 5000;

    /// <summary>Every file of the chain, the oldest first.</summary>
    protected IList<string> Layers => _layers;

    /// <summary>The monitor's socket.</summary>
    protected string Monitor => this["q"];

    /// <summary>The NBD server's socket.</summary>
    protected string Nbd => this["n"];

    /// <summary>Mounts an overlay of a full image on "m"; returns what it holds.</summary>
    protected async Task<byte[]> MountAsync()
    {
        byte[] model = await OverlayAsync("base", "top", _layers);
        (await RunAsync([this["top"], this["m"], "--qmp", Monitor, .. RunOptions.Arguments])).MustSucceed();
        _pid = Assert.Single(await PidsAsync());
        using TimedMonitor monitor = new(Monitor);
        StartServer(monitor);
        Export(monitor, "drive0", "disk");
        return model;
    }

    /// <summary>A full image and an overlay on it, which are added to the layers; returns what they hold.</summary>
    protected async Task<byte[]> OverlayAsync(string below, string top, IList<string> layers)
    {
        byte[] model = await FullImageAsync(below);
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-b", this[below], "-F", "qcow2", this[top]);
        layers.Add(this[below]);
        layers.Add(this[top]);
        return model;
    }

    /// <summary>Starts the NBD server at <see cref="Nbd"/>.</summary>
    private protected void StartServer(TimedMonitor monitor)
    {
        JsonObject address = new() { ["type"] = "unix", ["data"] = new JsonObject { ["path"] = Nbd } };
        _ = monitor.Execute("nbd-server-start", new JsonObject { ["addr"] = address });
    }

    /// <summary>Serves a node or a device for writing, under a name.</summary>
    private protected static void Export(TimedMonitor monitor, string node, string name) => _ = monitor.Execute(
        "block-export-add", new JsonObject { ["type"] = "nbd", ["id"] = name, ["node-name"] = node, ["name"] = name, ["writable"] = true });

    /// <summary>A qcow2 image with random content; returns that.</summary>
    private async Task<byte[]> FullImageAsync(string name)
    {
        byte[] content = new byte[Size];
        new Random(name.Length).NextBytes(content);
        await File.WriteAllBytesAsync(this[name + ".raw"], content);
        await QemuImg.RunAsync("convert", "-f", "raw", "-O", "qcow2", this[name + ".raw"], this[name]);
        return content;
    }

    /// <summary>The whole disk through a port equals the model.</summary>
    private protected static void MustHold(IDiskPort port, byte[] model)
    {
        byte[] buffer = new byte[Area];
        for (int offset = 0; offset < model.Length; offset += Area)
        {
            port.Read(offset, buffer, Area);
            int same = model.AsSpan(offset, Area).CommonPrefixLength(buffer);
            Assert.True(same == Area, $"wrong byte at {offset + same} through {port.GetType().Name}");
        }
    }

    /// <summary>Tells the daemon to quit and waits until it has.</summary>
    private protected async Task QuitAsync(TimedMonitor monitor)
    {
        _ = monitor.Execute("quit");
        for (int i = 0; i < 400 && Directory.Exists($"/proc/{_pid}") && !(await File.ReadAllTextAsync($"/proc/{_pid}/stat")).Contains(") Z", StringComparison.Ordinal); i++)
        {
            await Task.Delay(50);
        }

        Assert.Empty(await PidsAsync());
    }

    /// <summary>QEMU finds no mistake in any layer, and in the chain what the model holds.</summary>
    protected async Task ChainHoldsAsync(IEnumerable<string> layers, byte[] model)
    {
        string last = "";
        foreach (string layer in layers)
        {
            // Without the files below, which it would open again for each.
            string one = $"json:{{\"driver\":\"qcow2\",\"backing\":null,\"file\":{{\"driver\":\"file\",\"filename\":\"{layer}\"}}}}";
            ToolResult result = await ToolProcess.RunAsync("qemu-img", "check", "-q", one);
            Assert.True(result.ExitCode == 0, $"{layer}: {result.Output} {result.Error}");
            last = layer;
        }

        await File.WriteAllBytesAsync(this["model.raw"], model);
        await QemuImg.MustEqualRawAsync(last, this["model.raw"]);
    }

    /// <summary>The value that a share of the sorted ones do not exceed.</summary>
    protected static double Quantile(double[] sorted, double share) => sorted[Math.Min(sorted.Length - 1, (int)(sorted.Length * share))];

    /// <summary>Milliseconds for people.</summary>
    protected static string Ms(double milliseconds) => string.Create(CultureInfo.InvariantCulture, $"{milliseconds:0.00} ms");
}
