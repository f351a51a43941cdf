using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// Compares the refcounts that a qcow2 image stores with the references that it contains. Reads the file itself and shares nothing with the driver,
/// so that it can be its judge. The file must not change meanwhile. Changes nothing. Memory is bounded (about 25 MiB), time is proportional to the metadata.
/// </summary>
public sealed class ConsistencyCheck
{
    private readonly CheckedLayout _layout;
    private readonly CheckReport _report = new();
    private readonly StoredRefcounts _refcounts;
    private readonly ClusterReferences _references;
    private readonly ReferenceWalk _walk;

    private ConsistencyCheck(StorageFile file, CheckedLayout layout)
    {
        _layout = layout;
        _refcounts = new StoredRefcounts(file, layout);
        _references = new ClusterReferences(layout, _report);
        _walk = new ReferenceWalk(file, layout, _references, _refcounts, _report);
    }

    /// <summary>Checks the image in <paramref name="file"/>, which stays open.</summary>
    /// <exception cref="ImageFormatException">The header cannot be used: there is nothing to check.</exception>
    /// <exception cref="Base.BlockIOException">The file cannot be read.</exception>
    public static async ValueTask<CheckReport> RunAsync(StorageFile file)
    {
        CheckedLayout layout = await CheckedLayout.ReadAsync(file);
        return await new ConsistencyCheck(file, layout).RunAsync();
    }

    private async ValueTask<CheckReport> RunAsync()
    {
        _report.TotalClusters = (_layout.VirtualSize + _layout.ClusterSize - 1) >> _layout.ClusterBits;
        do
        {
            await _walk.RunAsync();
            await CompareAsync(_references.WindowStart, Math.Min(_references.WindowStart + _references.WindowLength, _references.FileClusters));
        }
        while (_references.NextWindow());

        await CountLeaksPastEndAsync();
        return _report;
    }

    private async ValueTask CompareAsync(long first, long end)
    {
        long blockEntries = _refcounts.BlockEntries;
        for (long start = first; start < end;)
        {
            long block = start / blockEntries;
            long stop = Math.Min(end, (block + 1) * blockEntries);
            byte[]? bytes = await _refcounts.BlockAsync(block);
            for (long cluster = start; cluster < stop; cluster++)
            {
                ulong stored = bytes is null ? 0 : StoredRefcounts.Decode(bytes, (int)(cluster - (block * blockEntries)), _layout.RefcountOrder);
                Compare(cluster, stored, _references.Count(cluster));
            }

            start = stop;
        }
    }

    // Blocks may say "in use" of clusters that the file does not have.
    private async ValueTask CountLeaksPastEndAsync()
    {
        long blockEntries = _refcounts.BlockEntries;
        for (long block = _references.FileClusters / blockEntries; block < _refcounts.TableEntries; block++)
        {
            byte[]? bytes = await _refcounts.BlockAsync(block);
            if (bytes is null)
            {
                continue;
            }

            for (long cluster = Math.Max(block * blockEntries, _references.FileClusters); cluster < (block + 1) * blockEntries; cluster++)
            {
                Compare(cluster, StoredRefcounts.Decode(bytes, (int)(cluster - (block * blockEntries)), _layout.RefcountOrder), references: 0);
            }
        }
    }

    private void Compare(long cluster, ulong stored, uint references)
    {
        long offset = cluster << _layout.ClusterBits;
        if (stored != 0 || references != 0)
        {
            _report.ImageEndOffset = offset + _layout.ClusterSize;
        }

        if (stored < references)
        {
            _report.Add(CheckFindingKind.RefcountTooLow, offset, $"the cluster at {offset} has refcount {stored} and {references} references");
        }
        else if (stored > references)
        {
            _report.Add(CheckFindingKind.Leak, offset, $"the cluster at {offset} has refcount {stored} and {references} references");
        }
    }
}
