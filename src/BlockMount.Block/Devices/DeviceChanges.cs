using BlockMount.Base.Async;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Formats;

namespace BlockMount.Block.Devices;

/// <summary>What happens to a device while none of its requests is under way. Any thread; one change of a graph at a time.</summary>
public static class DeviceChanges
{
    /// <summary>Changes the size in bytes: waits until no request is in flight, holds new ones back meanwhile.</summary>
    public static async ValueTask ResizeAsync(this BlockDevice device, long size, Preallocation preallocation = Preallocation.Off)
    {
        device.CheckWritable("resize");
        await device.RunDrainedAsync(async root =>
        {
            await root.ResizeAsync(size, preallocation);
            return root;
        });
    }

    /// <summary>
    /// Waits until no request is in flight, runs <paramref name="change"/>, which may replace the root, and lets requests in again.
    /// </summary>
    /// <param name="change">Gets the current root and returns the one to serve from now on. Must not use the device.</param>
    public static async ValueTask RunDrainedAsync(this BlockDevice device, Func<Node, ValueTask<Node>> change)
    {
        BlockDevice[] resized = [];
        using (AsyncMutex.Releaser held = await device.Changes.LockAsync())
        {
            using DrainedDevices drained = await DrainedDevices.BeginAsync(GraphWalk.DevicesAbove([device.Root]));
            device.RootEdge.MoveTo(await change(device.Root));
            resized = [.. drained.Resized];
        }

        foreach (BlockDevice other in resized)
        {
            other.AnnounceSize();
        }
    }

    /// <summary>Writes, zeroes and discards wait from now on, until <see cref="BlockDevice.ThawWrites"/>; returns when none is in flight any more.</summary>
    public static async ValueTask FreezeWritesAsync(this BlockDevice device)
    {
        device.Gate.Freeze();
        using AsyncMutex.Releaser held = await device.Changes.LockAsync();
        using DrainedDevices drained = await DrainedDevices.BeginAsync([device]);
    }
}
