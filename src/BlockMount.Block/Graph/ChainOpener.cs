using BlockMount.Base;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Formats.Raw;
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
        // Before anything else is opened: an active layer that cannot be used is the error to tell.
        CheckFeatures(chain.Links[0], options.ReadOnly, repairsDirty: options.RepairDirty is not null);
        while (await chain.OpenNextAsync())
        {
            CheckFeatures(chain.Links[^1], readOnly: true, repairsDirty: false);
        }

        return await MakeNodesAsync(chain, options);
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
        int qcow2Count = chain.Links.Count(link => link.Header is not null);
        long cacheBytes = options.MetadataCacheBytes / Math.Max(qcow2Count, 1);
        Node? node = null;
        try
        {
            for (int i = chain.Links.Count - 1; i >= 0; i--)
            {
                ChainLink link = chain.Links[i];
                FormatDriver driver = await MakeDriverAsync(chain, i, options, cacheBytes);
                string name = i == 0 ? options.NodeName : $"{options.NodeName}-{i}";
                node = new FormatNode(name, link.Path, driver, node);
            }

            return node!;
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

    // A driver that is made owns its file; before that the chain does.
    private static async ValueTask<FormatDriver> MakeDriverAsync(BackingChain chain, int index, ChainOpenOptions options, long cacheBytes)
    {
        ChainLink link = chain.Links[index];
        FormatDriver driver;
        if (link.Header is null)
        {
            if (index == 0 && options.Snapshot is not null)
            {
                throw new BlockIOException(Errno.EOPNOTSUPP, $"opening snapshot '{options.Snapshot}' of '{link.Path}', whose format {link.Format} keeps none");
            }

            driver = new RawDriver(link.File);
        }
        else
        {
            driver = await Qcow2Driver.OpenAsync(link.File, new Qcow2OpenOptions
            {
                ReadOnly = index > 0 || options.ReadOnly,
                CacheBytes = cacheBytes,
                DiscardToHost = options.DiscardToHost,
                Snapshot = index == 0 ? options.Snapshot : null,
                RepairDirty = options.RepairDirty,
                OnCorruption = options.OnCorruption,
            });
        }

        chain.TakeFile(index);
        return driver;
    }
}
