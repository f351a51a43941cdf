using BlockMount.Base;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Block.Graph;

/// <summary>
/// Opens an image with everything it stands on and makes nodes of it. The one place where the files of a chain are opened for
/// use. Any thread.
/// </summary>
public sealed class ChainOpener
{
    private readonly IStorageOpener _files;
    private readonly OpenPolicy _policy;

    /// <summary>Opens through <paramref name="files"/> what <paramref name="policy"/> admits.</summary>
    public ChainOpener(IStorageOpener files, OpenPolicy policy)
    {
        _files = files;
        _policy = policy;
    }

    /// <summary>
    /// Opens the chain of the image at <paramref name="path"/>. The caller owns the active layer's node, which owns the rest.
    /// After a failure nothing is open and no lock is held.
    /// </summary>
    /// <exception cref="BlockMountException">An image cannot be opened: says which link, why, and what to do.</exception>
    public async ValueTask<Node> OpenAsync(string path, ChainOpenOptions options)
    {
        await using BackingChain chain = new(_files, _policy, options);
        await chain.OpenTopAsync(path);
        CheckOptions(chain.Links[0], options.Qcow2);
        // Before anything else is opened: an active layer that cannot be used is the error to tell.
        CheckFeatures(chain.Links[0], options.ReadOnly, repairsDirty: options.RepairDirty is not null);
        await chain.OpenDataFileAsync();
        while (await chain.OpenNextAsync())
        {
            CheckFeatures(chain.Links[^1], readOnly: true, repairsDirty: false);
            await chain.OpenDataFileAsync();
        }

        return await MakeNodesAsync(chain, options);
    }

    private static void CheckOptions(ChainLink top, Qcow2RuntimeOptions asked)
    {
        if (top.Header is null && asked != new Qcow2RuntimeOptions())
        {
            throw new ImageFormatException($"Could not open '{top.Path}': options of the qcow2 driver do not apply to {top.Format}", "Leave them out");
        }

        if (asked.FindConflict() is { } conflict)
        {
            throw new ImageFormatException($"Could not open '{top.Path}': {conflict}");
        }
    }

    private static void CheckFeatures(ChainLink link, bool readOnly, bool repairsDirty)
    {
        if (link.Header is { } header)
        {
            FeaturePolicy.CheckOpen(header, readOnly, link.Path, repairsDirty);
        }
    }

    // From the base up, because a node is made with what is below it. A loop and no recursion: chains may be deep.
    private static async ValueTask<Node> MakeNodesAsync(BackingChain chain, ChainOpenOptions options)
    {
        MetadataBudget budget = MetadataBudget.Divide(chain.Links, options);
        Node? node = null;
        try
        {
            for (int i = chain.Links.Count - 1; i >= 0; i--)
            {
                string name = i == 0 || options.NodeName.Length == 0 ? options.NodeName : $"{options.NodeName}-{i}";
                node = await MakeNodeAsync(chain, i, name, SettingsFor(chain, i, options, budget.CacheBytes[i]), node);
            }

            node!.IndexBelow(budget.IndexBytes);
            return node;
        }
        catch
        {
            if (node is not null)
            {
                await node.DisposeAsync();
            }

            throw;
        }
    }

    // Once a driver is made the files belong to nodes; before that the chain closes them.
    private static async ValueTask<Node> MakeNodeAsync(BackingChain chain, int index, string name, DriverSettings settings, Node? below)
    {
        ChainLink link = chain.Links[index];
        FormatDriver driver = await settings.OpenAsync(link.File, chain.DataFileOf(index), settings.Qcow2.ReadOnly);
        FileNode file = new("", chain.TakeFile(index), link.OpenedWith);
        FileNode? dataFile = chain.DataFileOf(index) is { } data ? new FileNode("", data, link.OpenedWith) : null;
        return new FormatNode(name, driver, settings, file, dataFile, below);
    }

    private static DriverSettings SettingsFor(BackingChain chain, int index, ChainOpenOptions options, long cacheBytes)
    {
        ChainLink link = chain.Links[index];
        if (link.Header is null)
        {
            return index > 0 || options.Snapshot is null
                ? new DriverSettings(link.Format)
                : throw new BlockIOException(
                    Errno.EOPNOTSUPP, $"opening snapshot '{options.Snapshot}' of '{link.Path}', whose format {link.Format} keeps none");
        }

        Qcow2OpenOptions open = new()
        {
            ReadOnly = index > 0 || options.ReadOnly,
            CacheBytes = cacheBytes,
            CacheCleanInterval = options.Qcow2.CacheCleanInterval ?? Qcow2OpenOptions.CacheCleanIntervalDefault,
            DiscardToHost = options.DiscardToHost,
            Snapshot = index == 0 ? options.Snapshot : null,
            PassDiscardSnapshot = options.DiscardToHost,
            RepairDirty = options.RepairDirty,
            OnCorruption = options.OnCorruption,
        };
        return new DriverSettings(link.Format) { Qcow2 = index == 0 ? options.Qcow2.ApplyTo(open) : open };
    }
}
