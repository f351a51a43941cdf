using BlockMount.Base;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Snapshots;

/// <summary>The internal snapshots of one open image; see <see cref="IInternalSnapshots"/>. How they change: <see cref="SnapshotPlan"/>.</summary>
internal sealed class Qcow2Snapshots : IInternalSnapshots
{
    private readonly Qcow2Driver _driver;
    private readonly StorageFile _file;
    private readonly bool _discardFreed;

    /// <param name="discardFreed">Space that only a deleted state used goes back to the host.</param>
    internal Qcow2Snapshots(Qcow2Driver driver, StorageFile file, bool discardFreed)
    {
        _driver = driver;
        _file = file;
        _discardFreed = discardFreed;
    }

    /// <summary>Host clusters that are counted at once. Tests make it small.</summary>
    internal int WindowClusters { get; set; } = ReferenceWindow.ClustersMax;

    /// <inheritdoc/>
    public ValueTask<IReadOnlyList<SnapshotEntry>> ListAsync() => SnapshotTable.LoadAsync(_file, _driver.Header);

    /// <inheritdoc/>
    public async ValueTask<string> CreateAsync(string name, SnapshotMoment moment)
    {
        string id = "";
        await ChangeAsync((plan, size) =>
        {
            SnapshotNames.CheckNew(plan.Snapshots, name, _file.Name);
            id = SnapshotNames.NewId(plan.Snapshots);
            return plan.CreateAsync(NewEntry(id, name, moment, size), size);
        });
        return id;
    }

    /// <inheritdoc/>
    public ValueTask ApplyAsync(string idOrName)
    {
        // What they say of the disk is about another one then. QEMU refuses it, too.
        return _driver.Bitmaps?.Bitmaps.Count > 0
            ? throw new BlockIOException(
                Errno.EBUSY, $"applying snapshot '{idOrName}' of '{_file.Name}', which has persistent bitmaps", "Remove them first: 'blockmount bitmap --remove IMAGE NAME'")
            : ChangeAsync((plan, size) => plan.ApplyAsync(plan.Snapshots[SnapshotNames.Find(plan.Snapshots, idOrName, _file.Name)], size));
    }

    /// <inheritdoc/>
    public ValueTask DeleteAsync(string idOrName) => ChangeAsync(
        (plan, size) => plan.DeleteAsync(plan.Snapshots[SnapshotNames.Find(plan.Snapshots, idOrName, _file.Name)], size));

    private static SnapshotEntry NewEntry(string id, string name, SnapshotMoment moment, long size) => new()
    {
        Id = id,
        Name = name,
        L1TableOffset = 0,
        L1Size = 0,
        DiskSize = size,
        DateSeconds = Math.Clamp(moment.Date.ToUnixTimeSeconds(), 0, uint.MaxValue),
        DateNanoseconds = moment.Date.UtcTicks % TimeSpan.TicksPerSecond * TimeSpan.NanosecondsPerTick,
        VmClockNanoseconds = moment.VmClockNanoseconds,
        VmStateSize = 0,
        InstructionCount = moment.InstructionCount,
    };

    private async ValueTask ChangeAsync(Func<SnapshotPlan, long, ValueTask<HeaderSwitch>> make)
    {
        if (_driver.Header.HasIncompatible(FeatureBits.ExternalDataFile))
        {
            throw new BlockIOException(
                Errno.EOPNOTSUPP, $"snapshots of '{_file.Name}', whose data is in an external file", "Use an overlay: 'blockmount create -f qcow2 -b IMAGE -F qcow2 NEW'");
        }

        IReadOnlyList<HostRun> freed = [];
        await _driver.SwitchAsync(async context =>
        {
            SnapshotPlan plan = await SnapshotPlan.LoadAsync(
                _file, context.Header, context.Geometry, context.L1, context.Refcounts, context.Change, WindowClusters);
            HeaderSwitch next = await make(plan, context.Size);
            freed = plan.Freed;
            return next;
        });
        if (_discardFreed)
        {
            await DiscardAsync(freed);
        }
    }

    // Still in exclusive use, so nobody can have taken a freed cluster again.
    private async ValueTask DiscardAsync(IReadOnlyList<HostRun> freed)
    {
        int clusterBits = _driver.Header.ClusterBits;
        foreach (HostRun run in freed)
        {
            try
            {
                await _file.PunchHoleAsync(run.Start.Index << clusterBits, run.Count << clusterBits);
            }
            catch (BlockIOException)
            {
                // The clusters are free all the same; only their space stays with the file.
                return;
            }
        }
    }
}
