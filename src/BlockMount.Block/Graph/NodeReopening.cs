using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Storage;

namespace BlockMount.Block.Graph;

/// <summary>
/// Opens an image again in another way behind a node that stays: read-only when it becomes a backing file, for writing when a job needs it, with other options.
/// The old driver is closed before the new one is opened, because an image has one writer; if the new one does not open, or the transaction fails, the image is opened as it was.
/// Control loop only.
/// </summary>
internal static class NodeReopening
{
    /// <summary>Reopens <paramref name="node"/> as a part of <paramref name="transaction"/>, which has drained it. Nothing happens if it is as asked already.</summary>
    /// <exception cref="Base.BlockMountException">The file cannot be opened in that way, or somebody else uses it; everything is as before.</exception>
    /// <param name="change">Other options of the driver; null for the same.</param>
    /// <param name="rewire">Gives the node other files, or other handles of them, while it has no driver; undone by the transaction.</param>
    internal static async ValueTask RunAsync(
        GraphTransaction transaction, FormatNode node, bool readOnly, Func<DriverSettings, DriverSettings>? change = null, Func<ValueTask>? rewire = null)
    {
        if (node.Settings is not { } settings || (node.ReadOnly == readOnly && change is null && rewire is null))
        {
            return;
        }

        if (!node.ReadOnly)
        {
            // If this fails everything goes on as before. Afterwards there is nothing left in memory that closing could lose.
            await node.FlushAsync();
        }

        FormatDriver old = node.Driver;
        Files oldFiles = FilesOf(node);
        bool wasReadOnly = old.ReadOnly;
        try
        {
            // Before its files are opened again: closing it may make them longer. It was flushed above, or has nothing to flush.
            await old.CloseFlushedAsync();
            await (rewire?.Invoke() ?? ValueTask.CompletedTask);
            await OpenAnewAsync(transaction, node, change?.Invoke(settings) ?? settings, readOnly);
        }
        catch
        {
            await RestoreAsync(node, old, oldFiles, settings, wasReadOnly);
            throw;
        }

        transaction.OnAbort(async () =>
        {
            FormatDriver undone = node.Driver;
            try
            {
                await undone.DisposeAsync();
            }
            finally
            {
                await RestoreAsync(node, undone, oldFiles, settings, wasReadOnly);
            }
        });
    }

    /// <summary>Reopens a host file; formats above it must be reopened next. Nothing happens to a file of unknown origin.</summary>
    internal static async ValueTask ReopenFileAsync(GraphTransaction transaction, FileNode node, bool readOnly, Func<StorageOpenOptions, StorageOpenOptions>? change = null)
    {
        if (node.OpenedWith is not { } before)
        {
            return;
        }

        StorageFile old = node.File;
        StorageOpenOptions options = before with { ReadOnly = readOnly };
        options = change?.Invoke(options) ?? options;
        StorageFile reopened = await transaction.Graph.Files.ReopenAsync(old, options);
        node.Replace(reopened, options);
        transaction.OnAbort(async () =>
        {
            node.Replace(old, before);
            await reopened.DisposeAsync();
        });
        // After the drained section: requests need not wait for it.
        transaction.OnCommit(() =>
        {
            transaction.OnClean(old.DisposeAsync);
            return ValueTask.CompletedTask;
        });
    }

    /// <summary>Reopens a host file, and around that the image that stands on it, which has the old handle.</summary>
    /// <exception cref="GraphException">There are several.</exception>
    internal static ValueTask ReopenFileAndImageAsync(
        GraphTransaction transaction, FileNode node, bool readOnly, Func<StorageOpenOptions, StorageOpenOptions>? change = null)
    {
        FormatNode[] images = [.. node.Parents.Select(edge => edge.Parent).OfType<FormatNode>().Distinct()];
        return images switch
        {
            [] => ReopenFileAsync(transaction, node, readOnly, change),
            [var image] => RunAsync(transaction, image, image.ReadOnly || readOnly, rewire: () => ReopenFileAsync(transaction, node, readOnly, change)),
            _ => throw new GraphException($"Node '{node.Name}' is the file of several images"),
        };
    }

    private static async ValueTask OpenAnewAsync(GraphTransaction transaction, FormatNode node, DriverSettings settings, bool readOnly)
    {
        await ReopenBelowAsync(transaction, node, readOnly);
        Files files = FilesOf(node);
        _ = node.SwapDriver(await settings.OpenAsync(files.File, files.DataFile, readOnly), settings);
    }

    // What was there before worked; should it not open any more, no request may take what is left of it for an image.
    private static async ValueTask RestoreAsync(FormatNode node, FormatDriver closed, Files files, DriverSettings settings, bool readOnly)
    {
        try
        {
            _ = node.SwapDriver(await settings.OpenAsync(files.File, files.DataFile, readOnly), settings);
        }
        catch (Exception error)
        {
            _ = node.SwapDriver(new FailedDriver(closed, node.FileName, error), settings);
            throw;
        }
    }

    private static Files FilesOf(FormatNode node) =>
        new(node.ChildIn(NodeEdge.FileRole)!.Child.AsFile(), node.ChildIn(NodeEdge.DataFileRole)?.Child.AsFile());

    // What an image stands on, through filters, but not what shows through. A file that somebody else uses as well is not taken from them.
    private static async ValueTask ReopenBelowAsync(GraphTransaction transaction, Node node, bool readOnly)
    {
        foreach (NodeEdge edge in node.Children.Where(edge => edge.Role != NodeEdge.BackingRole && edge.Child.ReadOnly != readOnly))
        {
            switch (edge.Child)
            {
                case var shared when readOnly && shared.Parents.Count > 1:
                    break;
                case FileNode file:
                    await ReopenFileAsync(transaction, file, readOnly);
                    break;
                case FormatNode image:
                    await RunAsync(transaction, image, readOnly);
                    break;
                default:
                    await ReopenBelowAsync(transaction, edge.Child, readOnly);
                    break;
            }
        }
    }

    private readonly record struct Files(StorageFile File, StorageFile? DataFile);
}
