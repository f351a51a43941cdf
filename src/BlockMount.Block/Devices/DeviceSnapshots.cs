using BlockMount.Base;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Block.Devices;

/// <summary>The snapshots inside the active layer of a device. Any thread, concurrently. Errors: <see cref="BlockIOException"/>.</summary>
public static class DeviceSnapshots
{
    /// <summary>The internal snapshots of the active layer; none if it cannot have any.</summary>
    public static async ValueTask<IReadOnlyList<SnapshotEntry>> ListSnapshotsAsync(this BlockDevice device)
    {
        await device.Gate.EnterAsync();
        try
        {
            return device.Root.Snapshots is { } snapshots ? await snapshots.ListAsync() : [];
        }
        finally
        {
            device.Gate.Exit();
        }
    }

    /// <summary>
    /// Keeps the disk as it is under that name: requests in flight end before, later ones come after. Durable when it returns, as everything before is.
    /// </summary>
    /// <returns>The new snapshot's id.</returns>
    /// <exception cref="BlockIOException">See <see cref="IInternalSnapshots"/>.</exception>
    public static async ValueTask<string> CreateSnapshotAsync(this BlockDevice device, string name, SnapshotMoment moment)
    {
        string id = "";
        await ChangeAsync(device, async snapshots => id = await snapshots.CreateAsync(name, moment));
        return id;
    }

    /// <summary>
    /// Makes the disk what it was when the snapshot was taken, <see cref="BlockDevice.Size"/> included: requests in flight end before, later ones see the old state.
    /// </summary>
    /// <param name="idOrName">An id, else the first snapshot of that name.</param>
    /// <exception cref="BlockIOException">See <see cref="IInternalSnapshots"/>.</exception>
    public static async ValueTask ApplySnapshotAsync(this BlockDevice device, string idOrName)
    {
        await ChangeAsync(device, snapshots => snapshots.ApplyAsync(idOrName));
    }

    /// <summary>Forgets a snapshot; what the disk holds does not change.</summary>
    /// <param name="idOrName">An id, else the first snapshot of that name.</param>
    /// <exception cref="BlockIOException">See <see cref="IInternalSnapshots"/>.</exception>
    public static ValueTask DeleteSnapshotAsync(this BlockDevice device, string idOrName) => ChangeAsync(device, snapshots => snapshots.DeleteAsync(idOrName));

    private static async ValueTask ChangeAsync(BlockDevice device, Func<IInternalSnapshots, ValueTask> change)
    {
        device.CheckWritable("snapshot");
        await device.RunDrainedAsync(async root =>
        {
            await change(root.Snapshots ?? throw new BlockIOException(
                Errno.EOPNOTSUPP, $"snapshot of '{device.Name}', whose format {root.DriverName} keeps none", "Use an overlay: 'blockmount create -f qcow2 -b IMAGE -F FORMAT NEW'"));
            return root;
        });
    }
}
