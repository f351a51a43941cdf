using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;

namespace BlockMount.Block.Graph;

/// <summary>
/// Devices whose doors are shut and which nobody uses, until this is disposed. Requests that were held back on purpose (throttled ones) are let go first, so that the wait
/// ends when the I/O in flight does (FEATURES N4). The caller holds the graph's mutex all the while.
/// </summary>
internal sealed class DrainedDevices : IDisposable
{
    private readonly BlockDevice[] _devices;
    private readonly Unthrottled _unthrottled;
    private readonly long[] _sizes;

    private DrainedDevices(BlockDevice[] devices, Unthrottled unthrottled)
    {
        _devices = devices;
        _unthrottled = unthrottled;
        _sizes = [.. devices.Select(device => device.Size)];
    }

    /// <summary>The devices that had another size in the beginning; their exports are to be told when the mutex is no longer held.</summary>
    internal IEnumerable<BlockDevice> Resized => _devices.Where((device, index) => device.Size != _sizes[index]);

    /// <summary>Shuts all doors at once, then waits for everybody inside.</summary>
    /// <param name="nodes">Nodes that hold nothing back either, whether a device stands above them or not.</param>
    internal static async ValueTask<DrainedDevices> BeginAsync(IReadOnlyCollection<BlockDevice> devices, IEnumerable<Node>? nodes = null)
    {
        ValueTask[] closing = [.. devices.Select(device => device.Gate.CloseAsync())];
        DrainedDevices drained = new([.. devices], Unthrottled.Begin(devices.Select(device => device.Root).Concat(nodes ?? [])));
        foreach (ValueTask wait in closing)
        {
            await wait;
        }

        return drained;
    }

    /// <summary>The graph may be another one now: nothing that was known of it is believed any more. Then the doors open.</summary>
    public void Dispose()
    {
        foreach (BlockDevice device in _devices)
        {
            device.GraphChanged();
        }

        KeepShut();
        foreach (BlockDevice device in _devices)
        {
            device.Gate.Open();
        }
    }

    /// <summary>Instead of disposal: lets the nodes hold requests back again, and leaves the doors shut for good.</summary>
    internal void KeepShut() => _unthrottled.Dispose();
}
