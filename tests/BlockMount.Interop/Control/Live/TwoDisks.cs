using System.Net.Sockets;
using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Control;
using BlockMount.Control.Commands;
using BlockMount.Exports;
using BlockMount.Exports.Fuse;
using BlockMount.Formats;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Microsoft.Extensions.Logging.Abstractions;

namespace BlockMount.Interop.Control.Live;

/// <summary>Two images of the host as devices drive0 and drive1 in this process, with one monitor for both; drive0 is mounted. Everything is closed cleanly on disposal.</summary>
internal sealed class TwoDisks : IMonitorHost, IAsyncDisposable
{
    private readonly NodeGraph _graph = new(PosixStorage.Instance, new OpenPolicy());
    private readonly MonitorServer _server;
    private FuseExport? _mount;

    private TwoDisks()
    {
        Control = new ControlLoop(_graph);
        ControlMonitor monitor = new(this);
        _server = new MonitorServer((stream, cancel) => monitor.RunQmpAsync(stream, cancel), NullLogger.Instance);
    }

    public IReadOnlyList<BlockDevice> Devices => _graph.Devices;

    public ControlLoop Control { get; }

    public ExportManager Exports { get; } = new(NullLogger.Instance);

    public string Version => "0";

    /// <summary>Opens both, mounts the first one, and listens.</summary>
    public static async Task<TwoDisks> StartAsync(string first, string second, string mountPoint, string monitorPath)
    {
        TwoDisks disks = new();
        BlockDevice drive0 = await disks.ServeAsync(first, "drive0", "first");
        _ = await disks.ServeAsync(second, "drive1", "second");
        await File.WriteAllTextAsync(mountPoint, "");
        disks._mount = await FuseExport.StartAsync(
            drive0, new FuseExportOptions { MountPoint = mountPoint, FileSystemName = first, Writable = true }, NullLogger.Instance);
        _ = await disks._server.ListenAsync(new UnixDomainSocketEndPoint(monitorPath));
        return disks;
    }

    public void Quit() => throw new NotSupportedException("this process is not to end");

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        await Exports.DisposeAsync();
        if (_mount is not null)
        {
            await _mount.DisposeAsync();
        }

        await Control.DisposeAsync();
        await _graph.DisposeAsync();
    }

    private async Task<BlockDevice> ServeAsync(string file, string device, string node)
    {
        ChainOpenOptions options = new() { NodeName = node, Engine = RunOptions.Storage.Engine, Direct = RunOptions.Storage.Direct };
        Node top = await new ChainOpener(PosixStorage.Instance, new OpenPolicy()).OpenAsync(file, options);
        return await Control.RunAsync(async scope =>
        {
            _graph.Adopt(scope, top);
            return await _graph.AddDeviceAsync(scope, top, new DeviceOptions { Name = device, Writable = true });
        });
    }
}
