using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Block.Graph;

/// <summary>Snapshots inside the image of a device's active layer (FEATURES Q22, Q23).</summary>
public static class InternalSnapshotOperations
{
    /// <summary>blockdev-snapshot-internal-sync; undone if a later part of the transaction fails.</summary>
    public static async ValueTask CreateAsync(GraphTransaction transaction, string device, string name, SnapshotMoment moment)
    {
        Node root = transaction.Graph.Find(device);
        if (name.Length == 0)
        {
            throw new GraphException("Name is empty");
        }

        await transaction.DrainAsync(root);
        IInternalSnapshots snapshots = Of(root, device, "internal snapshots");
        if ((await snapshots.ListAsync()).Any(snapshot => snapshot.Name == name || snapshot.Id == name))
        {
            throw new GraphException($"Snapshot with name '{name}' already exists on device '{device}'");
        }

        string id = await snapshots.CreateAsync(name, moment);
        transaction.OnAbort(() => root.Snapshots!.DeleteAsync(id));
    }

    /// <summary>blockdev-snapshot-delete-internal-sync.</summary>
    /// <returns>What was deleted.</returns>
    public static async ValueTask<SnapshotEntry> DeleteAsync(ControlScope scope, string device, string? id, string? name)
    {
        Node root = scope.Graph.Find(device);
        if (id is null && name is null)
        {
            throw new GraphException("Name or id must be provided");
        }

        using DrainedSection drained = await DrainedSection.BeginAsync(scope, [root]);
        IInternalSnapshots snapshots = Of(root, device, "internal snapshot deletion");
        SnapshotEntry? found = (await snapshots.ListAsync())
            .FirstOrDefault(snapshot => (id is null || snapshot.Id == id) && (name is null || snapshot.Name == name));
        if (found is null)
        {
            throw new GraphException($"Snapshot with id '{id ?? "null"}' and name '{name ?? "null"}' does not exist on device '{device}'");
        }

        await snapshots.DeleteAsync(found.Id);
        return found;
    }

    private static IInternalSnapshots Of(Node root, string device, string what)
    {
        if (root.ReadOnly)
        {
            throw new GraphException($"Device '{device}' is read only");
        }

        return root.Snapshots ?? throw new GraphException(
            $"Block format '{root.DriverName}' used by device '{device}' does not support {what}");
    }
}
