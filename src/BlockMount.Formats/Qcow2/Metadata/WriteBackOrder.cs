using BlockMount.Base;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// The only place that knows in which order metadata reaches the disk (I2, I3; I4 is kept by
/// <see cref="Allocation.FreedClusters"/>). Everything here runs under the image's metadata mutex.
/// <list type="number">
/// <item>refcounts: an increase may reach the disk at any time, it leaks at worst; with lazy refcounts the dirty bit instead, once, and the
/// refcounts when their cache is crowded or the image is closed;</item>
/// <item>a flush, if anything that L2 or L1 entries rely on was written since the last one: refcounts (I3), copied edges (I2), the
/// first content of new L2 tables, the length of the file;</item>
/// <item>L2 slices and L1 sectors. A new L1 entry may arrive before its table's later changes: the table's first content, which is
/// on disk since step 2, is a state from before those changes.</item>
/// </list>
/// </summary>
public sealed class WriteBackOrder
{
    private readonly StorageFile _file;
    private readonly StorageFile? _dataFile;
    private readonly MetadataCache _refcounts;
    private readonly MetadataCache _l2;
    private readonly OverlapChecks _checks;

    // Not null: refcounts are lazy, and this is where the dirty bit says so.
    private readonly IncompatibleFeatures? _lazyUnder;

    private bool _barrierNeeded;
    private long _fileLengthWanted;
    private BlockIOException? _poison;

    /// <param name="lazyUnder">Holds the dirty bit under which refcounts are written lazily (FEATURES F15, F18); null writes them in order.</param>
    /// <param name="dataFile">The external data file; null if guest data lives in <paramref name="file"/>.</param>
    public WriteBackOrder(
        StorageFile file,
        MetadataCache refcounts,
        MetadataCache l2,
        OverlapChecks checks,
        IncompatibleFeatures? lazyUnder = null,
        StorageFile? dataFile = null)
    {
        _lazyUnder = lazyUnder;
        _file = file;
        _dataFile = dataFile;
        _refcounts = refcounts;
        _l2 = l2;
        _checks = checks;
    }

    /// <summary>So much is dirty that it should be written before more is changed.</summary>
    public bool IsCrowded => _l2.IsCrowded || _refcounts.IsCrowded;

    /// <summary>Something is still to be written back.</summary>
    public bool HasDirty(L1Table l1) => _refcounts.HasDirty || _l2.HasDirty || l1.HasDirty;

    /// <summary>Something was written that must be on disk before any L2 or L1 entry that is changed from now on (I2, I3).</summary>
    public void TablesAfterFlush() => _barrierNeeded = true;

    /// <summary>The file must be at least this long before tables point to its end: fresh clusters may be written only in part.</summary>
    public void FileMustCover(long hostOffset) => _fileLengthWanted = Math.Max(_fileLengthWanted, hostOffset);

    /// <summary>
    /// A change of the header failed half-way: nobody knows which table or size it names. Nothing is written back any more, so every later
    /// flush fails until the image is opened again.
    /// </summary>
    public void Poison(BlockIOException reason) => _poison ??= reason;

    /// <summary>
    /// Writes all dirty metadata in order, each piece only into a table of its kind. Its durability is the business of whoever flushes next.
    /// Of an image that was found damaged nothing is written any more.
    /// </summary>
    /// <param name="lazily">False: refcounts too, even where they are lazy.</param>
    public async ValueTask WriteBackAsync(L1Table l1, bool lazily = true)
    {
        _checks.Health.ThrowIfCorrupt("write-back of metadata");
        if (_poison is not null)
        {
            throw new BlockIOException(
                _poison.Errno, $"write-back of metadata of '{_file.Name}' after its header could not be changed", "Close the image and open it again", _poison);
        }

        if (!HistoricBug.Is(Bug.I3TablesBeforeRefcounts) || !(_l2.HasDirty || l1.HasDirty))
        {
            await WriteRefcountsAsync(lazily);
        }

        if (!_l2.HasDirty && !l1.HasDirty)
        {
            return;
        }

        if (_file.Length < _fileLengthWanted)
        {
            _barrierNeeded = true;
            await _file.ResizeAsync(_fileLengthWanted);
        }

        if (_barrierNeeded)
        {
            // I2: data before the entries that point there, also where it lives in another file.
            if (_dataFile is not null)
            {
                await _dataFile.FlushAsync();
            }

            await _file.FlushAsync();
            _barrierNeeded = false;
        }

        await _l2.WriteBackAsync(_checks, MetadataKinds.ActiveL2);
        await l1.WriteBackAsync(_checks);
        if (HistoricBug.Is(Bug.I3TablesBeforeRefcounts))
        {
            await WriteRefcountsAsync(lazily);
        }
    }

    /// <summary>
    /// Says on disk that the refcounts can be trusted again. Everything was written with <c>lazily: false</c> and flushed, and nothing has changed
    /// since.
    /// </summary>
    public async ValueTask ClearDirtyBitAsync()
    {
        if (_lazyUnder is not null && _lazyUnder.Has(FeatureBits.Dirty))
        {
            await _lazyUnder.ChangeAsync(set: 0, clear: FeatureBits.Dirty);
        }
    }

    private async ValueTask WriteRefcountsAsync(bool lazily)
    {
        if (!_refcounts.HasDirty)
        {
            return;
        }

        if (_lazyUnder is null || !lazily || _refcounts.IsCrowded)
        {
            _barrierNeeded = true;
            await _refcounts.WriteBackAsync(_checks, MetadataKinds.RefcountBlock);
        }
        else if (!_lazyUnder.Has(FeatureBits.Dirty))
        {
            // Durable before any table that needs one of the refcounts (I3): from here on a reader knows that they may be stale.
            await _lazyUnder.ChangeAsync(set: FeatureBits.Dirty, clear: 0);
        }
    }
}
