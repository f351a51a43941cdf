using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Exports;

namespace BlockMount.Control.Commands;

/// <summary>What a monitor controls. Supplied by the daemon; any thread.</summary>
public interface IMonitorHost
{
    /// <summary>The devices, in the order in which they were made.</summary>
    public IReadOnlyList<BlockDevice> Devices { get; }

    /// <summary>Where changes of the graph run.</summary>
    public ControlLoop Control { get; }

    /// <summary>The exports.</summary>
    public ExportManager Exports { get; }

    /// <summary>The character devices, in the order in which they were made.</summary>
    public IReadOnlyList<MonitorChannel> Channels => [];

    /// <summary>The daemon's version.</summary>
    public string Version { get; }

    /// <summary>Ends the daemon soon after; returns at once.</summary>
    public void Quit();
}
