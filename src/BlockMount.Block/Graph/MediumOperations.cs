using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Formats.Qcow2.Repair;
using BlockMount.Storage;

namespace BlockMount.Block.Graph;

/// <summary>What blockdev-change-medium is told of the new image.</summary>
public sealed record MediumOptions
{
    /// <summary>Path of the image.</summary>
    public required string FileName { get; init; }

    /// <summary>"raw" or "qcow2"; null recognises qcow2 and refuses everything else.</summary>
    public string? Format { get; init; }

    /// <summary>Whether the image is opened without the right to write; null: as the device serves the one of before.</summary>
    public bool? ReadOnly { get; init; }
}

/// <summary>Images behind devices that stay (FEATURES 1.1, S001-6 to S001-9). Errors are <see cref="BlockMountException"/>.</summary>
public static class MediumOperations
{
    /// <summary>
    /// Opens an image with everything it stands on, in the way the device's image was opened, and serves it in its place. The old one is flushed and closed after
    /// that, so both are open for a moment: the image that is served already, or one that it stands on, is refused by its lock.
    /// </summary>
    public static async ValueTask ChangeAsync(ControlScope scope, BlockDevice device, MediumOptions medium)
    {
        if (medium.Format is not (null or "raw" or "qcow2"))
        {
            throw new GraphException($"Unknown driver '{medium.Format}'");
        }

        // Who serves the device asked for writing when it was made; that does not change with the image.
        bool served = device.RootEdge.Permissions.Held.HasFlag(NodePermission.Write);
        if (medium.ReadOnly == served)
        {
            throw new GraphException(served ? $"Device '{device.Name}' is served for writing" : $"Device '{device.Name}' is read only");
        }

        FileNode? before = GraphWalk.Below([device.Root]).OfType<FileNode>().FirstOrDefault();
        StorageOpenOptions opened = before?.OpenedWith ?? new StorageOpenOptions();
        Node top = await new ChainOpener(scope.Graph.Files, scope.Graph.Policy).OpenAsync(medium.FileName, new ChainOpenOptions
        {
            Format = medium.Format,
            ReadOnly = !served,
            Direct = opened.Direct,
            NoFlush = opened.NoFlush,
            Engine = opened.Engine,
            ShareWrite = opened.ShareWrite,
            DiscardToHost = device.DiscardEnabled,
            RepairDirty = ImageRepair.RepairDirtyAsync,
            OnCorruption = scope.Graph.OnCorruption,
            NodeName = "",
        });
        await NodeOperations.ChangeMediumAsync(scope, device, top);
    }
}
