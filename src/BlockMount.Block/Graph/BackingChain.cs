using BlockMount.Base;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Block.Graph;

/// <summary>One image of a chain, opened and recognised.</summary>
/// <param name="Path">Where it was found: as the user gave it, or resolved by the policy.</param>
/// <param name="Format">"raw" or "qcow2".</param>
/// <param name="File">Owned by the chain until <see cref="BackingChain.TakeFile"/>.</param>
/// <param name="Header">The header of a qcow2 image.</param>
public sealed record ChainLink(string Path, string Format, StorageFile File, Qcow2Header? Header)
{
    /// <summary>How the file, and the data file, were opened; null if nobody knows.</summary>
    public StorageOpenOptions? OpenedWith { get; init; }
}

/// <summary>
/// Opens the files of a chain one after the other, from the active layer down, each reference through the
/// <see cref="OpenPolicy"/>. What has been opened can be looked at when a later link turns out broken. One caller at a time.
/// </summary>
public sealed class BackingChain : IAsyncDisposable
{
    private readonly IStorageOpener _files;
    private readonly OpenPolicy _policy;
    private readonly ChainOpenOptions _options;
    private readonly List<ChainLink> _links = [];
    private readonly Dictionary<int, StorageFile> _dataFiles = [];
    private readonly HashSet<int> _taken = [];
    private readonly HashSet<FileIdentity> _seen = [];

    /// <summary>An empty chain.</summary>
    public BackingChain(IStorageOpener files, OpenPolicy policy, ChainOpenOptions options)
    {
        _files = files;
        _policy = policy;
        _options = options;
    }

    /// <summary>The images opened so far, the active layer first.</summary>
    public IReadOnlyList<ChainLink> Links => _links;

    /// <summary>Opens the active layer, a file that the user named.</summary>
    /// <exception cref="BlockMountException">It cannot be opened or is no image; nothing is left open.</exception>
    public async ValueTask OpenTopAsync(string path)
    {
        if (_options.Format is not (null or "raw" or "qcow2"))
        {
            throw ImageInfo.UnknownFormat(_options.Format);
        }

        if (OpenPolicy.Identify(path) is { } identity)
        {
            _seen.Add(identity);
        }

        StorageOpenOptions options = ForTop();
        _links.Add(await OpenLinkAsync(path, options, _options.Format, TopFormatUnknown));
    }

    /// <summary>Opens the backing file of the last image.</summary>
    /// <returns>False if it has none: the chain is complete.</returns>
    /// <exception cref="BlockMountException">The link is broken; the message says which, and the images before it stay open.</exception>
    public async ValueTask<bool> OpenNextAsync()
    {
        ChainLink above = _links[^1];
        if (above.Header?.Backing is not { } reference)
        {
            return false;
        }

        string? resolved = null;
        try
        {
            resolved = _policy.ResolveReference(above.Path, reference);
            CheckDepth(above);
            CheckLoop(_policy.CheckReferenced(resolved), resolved);
            _links.Add(await OpenBackingAsync(resolved, reference));
            return true;
        }
        catch (BlockMountException e)
        {
            throw BrokenLink.Describe(e, above.Path, reference, resolved, _links.Count + 1);
        }
    }

    /// <summary>
    /// Opens the external data file of the last image, if it has one: as writable as the image and under the same locks. Inspection does not call
    /// this.
    /// </summary>
    /// <exception cref="BlockMountException">It is missing, refused or in use; what was opened before stays open.</exception>
    public async ValueTask OpenDataFileAsync()
    {
        int index = _links.Count - 1;
        ChainLink link = _links[index];
        string? chosen = index == 0 ? _options.DataFile : null;
        if (link.Header?.HasDataFile != true)
        {
            if (chosen is not null)
            {
                throw new ImageFormatException($"Could not open '{link.Path}': a data file was named, but the image keeps its data itself");
            }

            return;
        }

        try
        {
            (string path, FileIdentity? identity) = chosen is null ? ReferredDataFile(link) : (chosen, OpenPolicy.Identify(chosen));
            if (identity is { } known && !_seen.Add(known))
            {
                throw new ImageFormatException($"Could not open '{path}': it is part of the chain already");
            }

            _dataFiles.Add(index, await _files.OpenAsync(path, index == 0 ? ForTop() : ForBacking()));
        }
        catch (BlockMountException e)
        {
            throw new BlockMountException($"{e.Message} (data file of '{link.Path}')", e.Hint, e);
        }
    }

    /// <summary>The data file of the link at <paramref name="index"/>; null if it has none. It goes with the link's file.</summary>
    public StorageFile? DataFileOf(int index) => _dataFiles.GetValueOrDefault(index);

    /// <summary>Hands the file of the link at <paramref name="index"/>, and its data file, to the caller, who disposes them from now on.</summary>
    public StorageFile TakeFile(int index)
    {
        _taken.Add(index);
        return _links[index].File;
    }

    /// <summary>Closes the files that were not taken, the active layer first.</summary>
    public async ValueTask DisposeAsync()
    {
        for (int i = 0; i < _links.Count; i++)
        {
            if (_taken.Add(i))
            {
                await using (DataFileOf(i))
                {
                    await _links[i].File.DisposeAsync();
                }
            }
        }
    }

    private StorageOpenOptions ForTop() => new()
    {
        ReadOnly = _options.ReadOnly,
        Direct = _options.Direct,
        NoFlush = _options.NoFlush,
        Engine = _options.Engine,
        ShareWrite = _options.ShareWrite,
        ForceShare = _options.ForceShare,
        Lock = _options.Lock,
    };

    private StorageOpenOptions ForBacking() => ForTop() with { ReadOnly = true, ShareWrite = false };

    // Data files are raw whatever they look like.
    private (string Path, FileIdentity? Identity) ReferredDataFile(ChainLink link)
    {
        if (link.Header!.DataFileName is not { } name)
        {
            throw new ImageFormatException(
                $"Could not open '{link.Path}': the image does not say where its data file is",
                link == _links[0] ? "Name it with '-o data_file=PATH'" : null);
        }

        string path = _policy.ResolveReference(link.Path, new BackingReference(name, "raw"), "data file");
        return (path, _policy.CheckReferenced(path));
    }

    private ValueTask<ChainLink> OpenBackingAsync(string path, BackingReference reference)
    {
        StorageOpenOptions options = ForBacking();
        return reference.Format is null or "raw" or "qcow2"
            ? OpenLinkAsync(path, options, reference.Format, BackingFormatUnknown)
            : throw ImageInfo.UnknownFormat(reference.Format);
    }

    private async ValueTask<ChainLink> OpenLinkAsync(string path, StorageOpenOptions options, string? format, Func<string, string> whenUnknown)
    {
        StorageFile file = await _files.OpenAsync(path, options);
        try
        {
            format ??= await FormatProber.ProbeAsync(file) ?? whenUnknown(path);
            Qcow2Header? header = null;
            if (format == "qcow2")
            {
                header = await Qcow2HeaderReader.LoadAsync(file);
                FeaturePolicy.CheckKnown(header, file.Name);
            }

            return new ChainLink(path, format, file, header) { OpenedWith = options };
        }
        catch
        {
            await file.DisposeAsync();
            throw;
        }
    }

    private string TopFormatUnknown(string path) => _options.FormatWhenUnknown ?? throw new ImageFormatException(
        $"Could not open '{path}': the format was not recognised (no qcow2 header), and it is not guessed",
        "If it is a raw image, say so with '-f raw'");

    private string BackingFormatUnknown(string path) => _options.BackingFormatDefault ?? throw new ImageFormatException(
        $"Could not open '{path}': no backing format is recorded, the content was not recognised (no qcow2 header), and it is not guessed",
        $"If it is a raw image, record that once with 'qemu-img rebase -u -b {path} -F raw {_links[^1].Path}', or use '-o backing_format=raw'");

    private void CheckDepth(ChainLink above)
    {
        if (_links.Count >= _policy.DepthMax)
        {
            throw new ImageFormatException(
                $"Could not open '{_links[0].Path}': the chain has more than {_policy.DepthMax} images ('{above.Path}' has another backing file)",
                "Merge some of them with 'qemu-img commit' or 'qemu-img rebase'");
        }
    }

    private void CheckLoop(FileIdentity identity, string path)
    {
        if (!_seen.Add(identity))
        {
            throw new ImageFormatException($"Could not open '{path}': it is part of the chain already, the chain is a loop");
        }
    }
}
