using BlockMount.Block.Devices;
using BlockMount.Control.Commands;
using BlockMount.Exports;
using Microsoft.Extensions.Logging.Abstractions;

namespace BlockMount.Tests.Control.Qmp;

/// <summary>A daemon with the given devices and nothing else.</summary>
internal sealed class FakeHost(params BlockDevice[] devices) : IMonitorHost
{
    public IReadOnlyList<BlockDevice> Devices { get; } = devices;

    public ExportManager Exports { get; } = new(NullLogger.Instance);

    public (bool Direct, bool NoFlush) CacheMode => (false, false);

    public string Version => "0.0.1";

    public int QuitCount { get; private set; }

    public void Quit() => QuitCount++;
}
