using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Control.Commands;
using BlockMount.Daemon.Cli;
using BlockMount.Exports;

namespace BlockMount.Daemon.Hosting;

/// <summary>
/// What monitors control in both forms of the daemon: the graph, the loop that changes it, the exports, and the wish to quit. Owns them. Any thread.
/// </summary>
internal sealed class GraphHost(NodeGraph graph, ExportManager exports) : IMonitorHost
{
    private readonly TaskCompletionSource _quit = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>All nodes and devices.</summary>
    public NodeGraph Graph { get; } = graph;

    /// <inheritdoc/>
    public IReadOnlyList<BlockDevice> Devices => Graph.Devices;

    /// <inheritdoc/>
    public ControlLoop Control { get; } = new(graph);

    /// <inheritdoc/>
    public ExportManager Exports { get; } = exports;

    /// <summary>Looks for the character devices of monitors.</summary>
    public Func<IReadOnlyList<MonitorChannel>> ListChannels { get; init; } = static () => [];

    /// <inheritdoc/>
    public IReadOnlyList<MonitorChannel> Channels => ListChannels();

    /// <inheritdoc/>
    public string Version => CommandLine.Version;

    /// <summary>Completes when a client has told the daemon to quit.</summary>
    public Task Quitting => _quit.Task;

    /// <inheritdoc/>
    public void Quit() => _quit.TrySetResult();

    /// <summary>Ends what monitors have exported, once no monitor is left: then nobody can thaw a frozen device, and exports wait for what it holds back.</summary>
    public ValueTask EndExportsAsync(ClosingSteps steps)
    {
        NodeOperations.Thaw(Graph.Devices);
        return steps.TakeAsync(Exports.DisposeAsync);
    }

    /// <summary>Flushes and closes everything and releases the locks, once nobody is served any more.</summary>
    public async ValueTask CloseAsync(ClosingSteps steps)
    {
        foreach (BlockDevice device in Graph.Devices)
        {
            await steps.TakeAsync(device.FlushAsync);
        }

        await Control.DisposeAsync();
        await steps.TakeAsync(Graph.DisposeAsync);
    }
}
