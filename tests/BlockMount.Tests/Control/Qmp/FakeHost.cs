using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Control.Commands;
using BlockMount.Exports;
using BlockMount.Formats;
using BlockMount.TestSupport;
using Microsoft.Extensions.Logging.Abstractions;

namespace BlockMount.Tests.Control.Qmp;

/// <summary>A daemon with the given devices and nothing else.</summary>
internal sealed class FakeHost : IMonitorHost
{
    public FakeHost(params BlockDevice[] devices)
    {
        Devices = devices;
        Control = new ControlLoop(new NodeGraph(Files, new OpenPolicy()));
    }

    /// <summary>The files of its graph.</summary>
    public MemoryStorage Files { get; } = new();

    public IReadOnlyList<BlockDevice> Devices { get; }

    public ControlLoop Control { get; }

    public ExportManager Exports { get; } = new(NullLogger.Instance);

    public string Version => "0.0.1";

    public int QuitCount { get; private set; }

    public void Quit() => QuitCount++;
}
