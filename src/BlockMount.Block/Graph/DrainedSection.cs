using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;

namespace BlockMount.Block.Graph;

/// <summary>
/// A time in which no request is under way in the devices above some nodes, so that edges and drivers may be changed. May be nested in an action; a device
/// is drained by the outermost section that asks for it, and requests that came meanwhile go on when that one ends, as concurrent ones. Dispose exactly once.
/// </summary>
public sealed class DrainedSection : IDisposable
{
    private readonly ControlScope _scope;
    private readonly IReadOnlyList<BlockDevice> _devices;
    private readonly DrainedDevices _drained;

    private DrainedSection(ControlScope scope, IReadOnlyList<BlockDevice> devices, DrainedDevices drained)
    {
        _scope = scope;
        _devices = devices;
        _drained = drained;
    }

    /// <summary>Begins one. Waits for I/O in flight, and for nothing else: throttled requests are let go.</summary>
    /// <param name="nodes">What is to be changed.</param>
    public static async ValueTask<DrainedSection> BeginAsync(ControlScope scope, IEnumerable<Node> nodes)
    {
        await scope.LockAsync();
        IReadOnlyList<BlockDevice> devices = scope.Claim(GraphWalk.DevicesAbove(nodes));
        return new DrainedSection(scope, devices, await DrainedDevices.BeginAsync(devices, nodes));
    }

    /// <summary>Lets requests in again; each device forgets what it knew of the graph.</summary>
    public void Dispose()
    {
        BlockDevice[] resized = [.. _drained.Resized];
        _drained.Dispose();
        _scope.Announce(resized);
        _scope.Yield(_devices);
        _scope.Unlock();
    }
}
