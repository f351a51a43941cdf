using BlockMount.Base.Async;
using BlockMount.Block.Devices;

namespace BlockMount.Block.Graph;

/// <summary>
/// Says that the caller runs on the <see cref="ControlLoop"/>, which alone makes these: methods that change the graph take one. Keeps what the action holds, so that its parts
/// may lock and drain again what is locked and drained already. One thread at a time; valid until the action ends.
/// </summary>
public sealed class ControlScope
{
    private readonly NodeGraph _graph;

    // How often the graph's mutex was asked for, and its owner while that is not 0.
    private int _depth;
    private AsyncMutex.Releaser _held;

    // Whose exports are to be told of a new size when the mutex is free: they may have to wait for something that waits for it.
    private readonly List<BlockDevice> _resized = [];

    // The devices that sections of this action have drained.
    private readonly HashSet<BlockDevice> _drained = [];

    internal ControlScope(NodeGraph graph) => _graph = graph;

    /// <summary>The graph that may be changed.</summary>
    public NodeGraph Graph => _graph;

    /// <summary>Keeps everybody else from changing edges, until <see cref="Unlock"/>. Does not stop any I/O.</summary>
    internal async ValueTask LockAsync()
    {
        if (_depth == 0)
        {
            _held = await _graph.Changes.LockAsync();
        }

        _depth++;
    }

    internal void Unlock()
    {
        if (--_depth > 0)
        {
            return;
        }

        _held.Dispose();
        BlockDevice[] resized = [.. _resized.Distinct()];
        _resized.Clear();
        foreach (BlockDevice device in resized)
        {
            device.AnnounceSize();
        }
    }

    /// <summary>Those of the devices that this action has not drained already; they count as drained from now on.</summary>
    internal IReadOnlyList<BlockDevice> Claim(IEnumerable<BlockDevice> devices) => [.. devices.Where(_drained.Add)];

    /// <summary>Exports of these devices are told of the size in the end.</summary>
    internal void Announce(IEnumerable<BlockDevice> devices) => _resized.AddRange(devices);

    /// <summary>The end of <see cref="Claim"/>.</summary>
    internal void Yield(IEnumerable<BlockDevice> devices) => _drained.ExceptWith(devices);
}
