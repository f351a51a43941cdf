using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Formats.Qcow2.Allocation;
using BlockMount.Formats.Qcow2.Bitmaps;
using BlockMount.Formats.Qcow2.Compression;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Formats.Qcow2.Snapshots;
using BlockMount.Formats.Qcow2.Translation;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2;

/// <summary>
/// The qcow2 format, versions 2 and 3. A facade: translation, allocation and write-back live in the folders of those names, and
/// Metadata/README.md states the order of writes. Owns its file and its data file.
/// </summary>
public sealed class Qcow2Driver : FormatDriver
{
    private readonly StorageFile _file;
    private readonly StorageFile? _dataFile;
    private readonly Geometry _geometry;
    private readonly CompressedClusters _compressed;
    private readonly ImageHealth _health;
    private readonly IncompatibleFeatures? _features;
    private readonly Qcow2OpenOptions _options;

    // Changed only under exclusive use, by ResizeAsync, SetBackingReferenceAsync and SwitchAsync.
    private long _virtualSize;
    private Qcow2Header _header;

    // Replaced only under exclusive use, by SwitchAsync.
    private MappingLookup _lookup;
    private WriteSide? _write;
    private CacheCleaner? _cleaner;

    // Set under exclusive use when nobody knows which tables the header names: writing in place might change a snapshot.
    private BlockIOException? _switchFailure;

    private Qcow2Driver(
        StorageFile file,
        Qcow2OpenOptions options,
        Qcow2Header header,
        Geometry geometry,
        CompressedClusters compressed,
        ImageHealth health,
        IncompatibleFeatures? features,
        OpenTables tables)
    {
        _options = options;
        _features = features;
        _health = health;
        _file = file;
        _dataFile = options.DataFile;
        _header = header;
        _geometry = geometry;
        _compressed = compressed;
        _lookup = tables.Lookup;
        _write = tables.Write;
        _cleaner = tables.StartCleaner(options);
        Snapshots = new Qcow2Snapshots(this, file, discardFreed: options.PassDiscardSnapshot);
        // As QEMU: a size that is no multiple of a sector is rounded down.
        _virtualSize = Alignment.Down(header.Size, 512);
    }

    /// <inheritdoc/>
    public override string FormatName => "qcow2";

    /// <inheritdoc/>
    public override long VirtualSize => _virtualSize;

    /// <inheritdoc/>
    public override bool ReadOnly => _write is null;

    /// <inheritdoc/>
    public override int ClusterSize => _geometry.ClusterSize;

    /// <inheritdoc/>
    public override int ZeroUnit => _write?.RawData is null ? _geometry.SubclusterSize : 1;

    /// <inheritdoc/>
    public override long AllocatedBytes => _file.AllocatedBytes + (_dataFile?.AllocatedBytes ?? 0);

    /// <inheritdoc/>
    public override BackingReference? Backing => _header.Backing;

    /// <inheritdoc/>
    public override IInternalSnapshots Snapshots { get; }

    /// <summary>The header as it was when the image was opened or its snapshots last changed, with the backing reference of today.</summary>
    public Qcow2Header Header => _header;

    /// <summary>The persistent bitmaps of a writable image; null if the image is open read-only (see <see cref="LoadBitmapsAsync"/>).</summary>
    public PersistentBitmapStore? Bitmaps => _write?.Bitmaps;

    /// <summary>What was found damaged while the image was open; null as long as nothing was.</summary>
    public CorruptionReport? Corruption => _health.First;

    /// <summary>
    /// Opens the image in <paramref name="file"/>, which must be opened for writing unless the options say read-only. On success the
    /// driver owns the file and the data file of the options; on failure the caller still does. A writable open clears the autoclear bits of what this
    /// program does not keep true, and marks persistent bitmaps as in use.
    /// </summary>
    /// <exception cref="ImageFormatException">Not a usable image; see <see cref="FeaturePolicy"/>.</exception>
    /// <exception cref="BlockIOException">The file cannot be read or written.</exception>
    public static async ValueTask<Qcow2Driver> OpenAsync(StorageFile file, Qcow2OpenOptions options)
    {
        Qcow2Header header = await LoadUsableHeaderAsync(file, options);
        if (header.HasDataFile != options.DataFile is not null)
        {
            throw new ImageFormatException(
                $"Could not open '{file.Name}': {(header.HasDataFile ? "its data file is missing" : "a data file was given, but the image has none")}");
        }

        Geometry geometry = new(header, CacheSizes.For(header, options, file.Name).L2SliceSize);
        if (options.Snapshot is not null)
        {
            header = await SnapshotAsDevice.SelectAsync(file, header, geometry, options);
        }

        bool hasFeatureBits = !options.ReadOnly && header.Version >= 3;
        IncompatibleFeatures? features = hasFeatureBits ? new IncompatibleFeatures(file, header.IncompatibleFeatures) : null;
        ImageHealth health = new(file, options.ReadOnly, features, options.OnCorruption);
        CompressedClusters compressed = new(ClusterDecompressor.For(header.CompressionType), geometry.ClusterSize);
        OpenTables tables = await OpenTablesAsync(file, header, geometry, compressed, health, features, options, bitmaps: null);
        return new Qcow2Driver(file, options, header, geometry, compressed, health, features, tables);
    }

    /// <inheritdoc/>
    public override MapLease EnterLease() => _write is null ? default : _write.Epoch.Enter();

    /// <inheritdoc/>
    public override ValueTask ReadCompressedAsync(Mapping mapping, long offset, Memory<byte> buffer) =>
        _compressed.ReadAsync(mapping, _geometry.OffsetInCluster(offset), buffer);

    /// <inheritdoc/>
    public override ValueTask OlderRequestsEndedAsync() => Writable.Metadata.OlderRequestsEndedAsync();

    /// <inheritdoc/>
    public override ValueTask CommitWriteAsync(PendingAllocation allocation) => Writable.Commit.CommitAsync((Qcow2Allocation)allocation);

    /// <inheritdoc/>
    public override ValueTask AbandonWriteAsync(PendingAllocation allocation) =>
        // Also of an image that was found damaged meanwhile: others may be waiting for the guest clusters.
        _write!.Commit.AbandonAsync((Qcow2Allocation)allocation);

    /// <inheritdoc/>
    public override ValueTask<bool> WriteCompressedAsync(long offset, ReadOnlyMemory<byte> cluster)
    {
        if (_header.CryptMethod != 0 || _header.HasIncompatible(FeatureBits.ExternalDataFile))
        {
            string reason = _header.CryptMethod != 0 ? "is encrypted" : "has an external data file";
            throw new BlockIOException(Errno.EOPNOTSUPP, $"compressed write to '{_file.Name}', which {reason}");
        }

        Writable.Bitmaps.GuestDataChanged();
        return Writable.Compressed.WriteAsync(_geometry.GuestClusterOf(offset), cluster);
    }

    /// <inheritdoc/>
    public override ValueTask<bool> ZeroAsync(long offset, long length, ZeroFlags flags)
    {
        Writable.Bitmaps.GuestDataChanged();
        if (Writable.RawData is { } raw)
        {
            return WriteZeroesAsync(raw, offset, length, flags);
        }

        GuestCluster first = _geometry.GuestClusterOf(offset);
        if (_geometry.OffsetInCluster(offset) == 0 && (_geometry.OffsetInCluster(length) == 0 || offset + length == _virtualSize))
        {
            return Writable.Drop.ZeroAsync(first, _geometry.ClustersFor(length), flags);
        }

        // A disk may end inside a cluster; what lies behind its end may become zeros too.
        int end = offset + length == _virtualSize ? _geometry.L2.Subclusters : _geometry.SubclusterOf(offset + length - 1) + 1;
        int start = _geometry.SubclusterOf(offset);
        return Writable.Drop.ZeroPartAsync(first, L2Format.MaskOf(start, end - start), flags);
    }

    /// <inheritdoc/>
    public override ValueTask DiscardAsync(long offset, long length)
    {
        Writable.Bitmaps.GuestDataChanged();
        return Writable.RawData is { } raw
            ? raw.DiscardAsync(offset, length)
            : Writable.Drop.DiscardAsync(_geometry.GuestClusterOf(offset), _geometry.ClustersFor(length));
    }

    /// <inheritdoc/>
    public override ValueTask FlushAsync() => _write is null ? ValueTask.CompletedTask : _write.Metadata.FlushAsync();

    /// <inheritdoc/>
    public override async ValueTask ResizeAsync(
        long size, Func<ValueTask>? fillNewSpace = null, Preallocation preallocation = Preallocation.Off)
    {
        PreallocationFill.CheckGrows(preallocation, _virtualSize, size, _file.Name);
        if (_header.Version < 3 && _header.SnapshotCount > 0)
        {
            throw new BlockIOException(
                Errno.EOPNOTSUPP,
                $"resize of '{_file.Name}', a version 2 image with internal snapshots",
                "Delete the snapshots first, or convert the image to version 3");
        }

        Writable.Resize.Check(size);
        if (size > _virtualSize)
        {
            await GrowAsync(size, fillNewSpace, preallocation);
        }
        else if (size < _virtualSize)
        {
            await Writable.Resize.WriteSizeAsync(size);
            // From here on the disk is short, whatever becomes of the clusters behind its end.
            _virtualSize = size;
            await Writable.Resize.FreeBeyondAsync(size);
        }

        await Writable.Bitmaps.ResizeAsync(size);
    }

    /// <inheritdoc/>
    public override async ValueTask SetBackingReferenceAsync(BackingReference? backing)
    {
        if (backing is not null && (_header.AutoclearFeatures & FeatureBits.RawExternalData) != 0)
        {
            throw new ImageFormatException($"'{_file.Name}' has a raw external data file, which must stand for itself: it cannot have a backing file");
        }

        WriteSide write = Writable;
        // What the guest sees without the old backing file is on disk before the reference goes.
        await write.Metadata.FlushAsync();
        using AsyncMutex.Releaser held = await write.Metadata.Mutex.LockAsync();
        await write.Metadata.RewriteHeaderAsync(header => header with { Backing = backing });
        _header = _header with { Backing = backing };
        write.Drop.HasBacking = backing is not null;
    }

    /// <summary>The persistent bitmaps as the file lists them, for an image that is open read-only.</summary>
    public ValueTask<BitmapDirectory> LoadBitmapsAsync() => BitmapDirectory.LoadAsync(_file, _header);

    /// <summary>Reads a bitmap that <see cref="LoadBitmapsAsync"/> returned.</summary>
    public BitmapReader OpenBitmap(StoredBitmap bitmap) => new(_file, ClusterSize, bitmap);

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        try
        {
            if (_cleaner is not null)
            {
                await _cleaner.DisposeAsync();
            }

            if (_write is not null)
            {
                await _write.Metadata.FlushForCloseAsync();
                await _write.Bitmaps.CloseAsync();
            }
        }
        finally
        {
            await _health.Recorded;
            try
            {
                await (_dataFile?.DisposeAsync() ?? ValueTask.CompletedTask);
            }
            finally
            {
                await _file.DisposeAsync();
            }
        }
    }

    /// <inheritdoc/>
    protected override ValueTask<Mapping> MapCoreAsync(long offset, long length, MapPurpose purpose) =>
        _lookup.TryMap(offset, length, out Mapping mapping) ? new ValueTask<Mapping>(mapping) : MapSlowAsync(offset, length);

    /// <inheritdoc/>
    protected override ValueTask<WritePlan> PrepareWriteCoreAsync(long offset, long length)
    {
        _health.ThrowIfCorrupt("write");
        Writable.Bitmaps.GuestDataChanged();
        return _lookup.TryPlanInPlace(offset, length, out WritePlan plan)
            ? new ValueTask<WritePlan>(plan)
            : Writable.Preparation.PrepareAsync(offset, length, _virtualSize);
    }

    private static async ValueTask<bool> WriteZeroesAsync(RawDataFile raw, long offset, long length, ZeroFlags flags)
    {
        await raw.ZeroAsync(offset, length, flags);
        return true;
    }

    private async ValueTask GrowAsync(long size, Func<ValueTask>? fillNewSpace, Preallocation preallocation)
    {
        long oldSize = _virtualSize;
        await Writable.Resize.MakeRoomAsync(oldSize, size);
        try
        {
            _virtualSize = size;
            if (fillNewSpace is not null)
            {
                // The zeros of new space are no change of the guest's: no bitmap has bits for it yet.
                bool changedBefore = Writable.Bitmaps.IsGuestDataChanged;
                await fillNewSpace();
                Writable.Bitmaps.IsGuestDataChanged = changedBefore;
            }

            await PreallocatedGrowth.RunAsync(this, oldSize, size, preallocation);
            await Writable.Resize.WriteSizeAsync(size);
        }
        catch
        {
            _virtualSize = oldSize;
            if (preallocation != Preallocation.Off)
            {
                await Writable.Resize.TryFreeBeyondAsync(oldSize);
            }

            throw;
        }
    }

    private WriteSide Writable
    {
        get
        {
            _health.ThrowIfCorrupt("change");
            if (_switchFailure is not null)
            {
                throw new BlockIOException(
                    _switchFailure.Errno, $"change of '{_file.Name}' after its header could not be changed", "Close the image and open it again", _switchFailure);
            }

            return _write ?? throw new BlockIOException(Errno.EROFS, $"change of '{_file.Name}'");
        }
    }

    /// <summary>
    /// Replaces the tables in force at one instant (<see cref="ShadowChange"/>). Needs exclusive use. On failure the image is as it was and can be used, or,
    /// if the header could not be written, takes no more writes until it is opened again.
    /// </summary>
    /// <param name="plan">Writes the new tables, flushes them, and says what the header must name.</param>
    internal async ValueTask SwitchAsync(Func<ShadowContext, ValueTask<HeaderSwitch>> plan)
    {
        WriteSide write = Writable;
        await write.Metadata.FlushForCloseAsync();
        using AsyncMutex.Releaser held = await write.Metadata.Mutex.LockAsync();
        await SwitchLockedAsync(write, plan);
    }

    private async ValueTask SwitchLockedAsync(WriteSide write, Func<ShadowContext, ValueTask<HeaderSwitch>> plan)
    {
        if (!write.Metadata.IsQuarantineEmpty)
        {
            throw new BlockIOException(Errno.EIO, $"freeing clusters of '{_file.Name}' before its tables are changed");
        }

        ShadowChange change = new(_file, _geometry, write.Tables, write.Metadata);
        try
        {
            // Anew from the file: other owners of parts of it (bitmaps, feature bits) have changed theirs.
            Qcow2Header present = await Qcow2HeaderReader.LoadAsync(_file);
            HeaderSwitch next = await plan(new ShadowContext(present, _geometry, _virtualSize, write.Tables.L1, write.Refcounts, change));
            Qcow2Header header = next.ApplyTo(present);
            // Opened before the switch, so that nothing can fail after it.
            OpenTables opened = await OpenTablesAsync(_file, header, _geometry, _compressed, _health, _features, _options, write.Bitmaps);
            await change.SwitchAsync(next);
            _header = header;
            _lookup = opened.Lookup;
            _write = opened.Write;
            _virtualSize = next.Size;
            _compressed.Clear();
            await (_cleaner?.DisposeAsync() ?? ValueTask.CompletedTask);
            _cleaner = opened.StartCleaner(_options);
        }
        catch (Exception error) when (change.IsSwitching)
        {
            _switchFailure = error as BlockIOException ?? new BlockIOException(Errno.EIO, $"changing the header of '{_file.Name}'", innerException: error);
            throw;
        }
        catch
        {
            await change.GiveBackAsync();
            throw;
        }
    }

    // What depends on the tables that the header names. bitmaps: those of the same image, which is open already.
    private static async ValueTask<OpenTables> OpenTablesAsync(
        StorageFile file,
        Qcow2Header header,
        Geometry geometry,
        CompressedClusters compressed,
        ImageHealth health,
        IncompatibleFeatures? features,
        Qcow2OpenOptions options,
        PersistentBitmapStore? bitmaps)
    {
        CacheSizes sizes = CacheSizes.For(header, options, file.Name);
        OverlapChecks checks = new(geometry, health, new MetadataMap(), options.OverlapCheck);
        L1Table l1 = await L1Table.LoadAsync(file, header.L1TableOffset, header.L1Size, (int)geometry.L1EntriesFor(header.Size));
        MetadataCache l2 = new(file, sizes.L2SliceSize, sizes.L2Slices);
        GuestTables tables = new(health, geometry, l1, l2);
        MappingLookup lookup = new(file, options.DataFile ?? file, geometry, tables, checks);
        MetadataCache refcounts = new(file, geometry.RefcountSliceSize, sizes.RefcountSlices);
        WriteSide? write = options.ReadOnly
            ? null
            : await WriteSide.OpenAsync(file, header, geometry, tables, refcounts, lookup, compressed, checks, features, options, bitmaps);
        return new OpenTables(lookup, write, [l2, refcounts]);
    }

    private async ValueTask<Mapping> MapSlowAsync(long offset, long length)
    {
        Mapping mapping;
        do
        {
            // Another load may evict the slice before the look-up; with two-slice caches it does.
            await _lookup.LoadAsync(offset);
        }
        while (!_lookup.TryMap(offset, length, out mapping));

        return mapping;
    }

    // A dirty image is repaired first, because its refcounts may be too low; for reading they are not needed.
    private static async ValueTask<Qcow2Header> LoadUsableHeaderAsync(StorageFile file, Qcow2OpenOptions options)
    {
        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file);
        FeaturePolicy.CheckOpen(header, options.ReadOnly, file.Name, repairsDirty: options.RepairDirty is not null);
        if (!options.ReadOnly && header.HasIncompatible(FeatureBits.Dirty))
        {
            await options.RepairDirty!(file);
            header = await Qcow2HeaderReader.LoadAsync(file);
            FeaturePolicy.CheckOpen(header, readOnly: false, file.Name);
        }

        if (header.Version < 3 && !options.ReadOnly)
        {
            RefuseVersion3Options(file.Name, options);
        }

        return header;
    }

    private static void RefuseVersion3Options(string name, Qcow2OpenOptions options)
    {
        string? what = options.LazyRefcounts == true ? "lazy-refcounts" : options.DiscardNoUnref ? "discard-no-unref" : null;
        if (what is not null)
        {
            throw new ImageFormatException(
                $"Could not open '{name}': {what} needs a version 3 image (compat=1.1), and this is version 2",
                "Leave the option out, or convert the image to version 3");
        }
    }

    /// <summary>What depends on the tables that the header names.</summary>
    /// <param name="Write">Null for a read-only image.</param>
    private sealed record OpenTables(MappingLookup Lookup, WriteSide? Write, IReadOnlyList<MetadataCache> Caches)
    {
        /// <summary>Watches the caches; the caller disposes it. Null if they are to stay as they are.</summary>
        internal CacheCleaner? StartCleaner(Qcow2OpenOptions options) =>
            options.CacheCleanInterval > TimeSpan.Zero ? new CacheCleaner(options.Time, options.CacheCleanInterval, Caches) : null;
    }

    /// <summary>What a writable image has beyond a readable one.</summary>
    private sealed class WriteSide
    {
        private WriteSide(
            GuestTables tables,
            RefcountTable refcounts,
            ReclaimEpoch epoch,
            MetadataWriter metadata,
            WritePreparation preparation,
            WriteCommit commit,
            CompressedWrite compressed,
            DropClusters drop,
            Qcow2Resize resize,
            PersistentBitmapStore bitmaps,
            RawDataFile? rawData)
        {
            Tables = tables;
            Refcounts = refcounts;
            RawData = rawData;
            Epoch = epoch;
            Metadata = metadata;
            Preparation = preparation;
            Commit = commit;
            Compressed = compressed;
            Drop = drop;
            Resize = resize;
            Bitmaps = bitmaps;
        }

        internal GuestTables Tables { get; }

        internal RefcountTable Refcounts { get; }

        internal ReclaimEpoch Epoch { get; }

        internal MetadataWriter Metadata { get; }

        internal WritePreparation Preparation { get; }

        internal WriteCommit Commit { get; }

        internal CompressedWrite Compressed { get; }

        internal DropClusters Drop { get; }

        internal Qcow2Resize Resize { get; }

        internal PersistentBitmapStore Bitmaps { get; }

        // Null unless the data file is a raw image of the disk.
        internal RawDataFile? RawData { get; }

        internal static async ValueTask<WriteSide> OpenAsync(
            StorageFile file,
            Qcow2Header header,
            Geometry geometry,
            GuestTables tables,
            MetadataCache blocks,
            MappingLookup lookup,
            CompressedClusters compressed,
            OverlapChecks checks,
            IncompatibleFeatures? features,
            Qcow2OpenOptions options,
            PersistentBitmapStore? openBitmaps)
        {
            StorageFile? dataFile = options.DataFile;
            RawDataFile? rawData = header.HasRawDataFile ? new RawDataFile(dataFile!, options.DiscardToHost) : null;
            bool isLazy = options.LazyRefcounts ?? header.HasCompatible(FeatureBits.LazyRefcounts);
            WriteBackOrder order = new(file, blocks, tables.L2, checks, isLazy ? features : null, dataFile);
            HostRun location = new(geometry.HostClusterOf(header.RefcountTableOffset), header.RefcountTableClusters);
            RefcountTable refcounts = await RefcountTable.LoadAsync(file, geometry, blocks, order, checks, location);
            await TableRegistration.RunAsync(file, header, geometry, tables.L1, checks, options.OverlapCheck);
            BitmapDirectory directory = BitmapDirectory.Empty;
            if (openBitmaps is null)
            {
                directory = await DirectoryOnDisk.LoadAsync(file, header, geometry, checks);
                ulong maintained = FeatureBits.AutoclearMaintained
                    & ~(directory.Problem is null ? 0 : FeatureBits.Bitmaps)
                    & ~(rawData is null ? FeatureBits.RawExternalData : 0);
                if ((header.AutoclearFeatures & ~maintained) != 0)
                {
                    await HeaderUpdate.WriteAutoclearFeaturesAsync(file, order, header.AutoclearFeatures & maintained);
                }
            }

            ClusterAllocator allocator = new(file, geometry, refcounts, order, checks);
            StreamSpace space = new(geometry, allocator, refcounts);
            ReclaimEpoch epoch = new();
            FreedClusters freed = new(file, geometry, allocator, epoch, checks, new DiscardPolicy(options.DiscardToHost, options.PassDiscardSnapshot, options.PassDiscardOther));
            MetadataWriter metadata = new(file, dataFile, geometry, tables, allocator, freed, epoch, order, checks, compressed.Clear);
            DropClusters drop = new(
                options.DiscardToHost ? dataFile : null,
                geometry,
                tables,
                lookup,
                metadata,
                header.Backing is not null,
                options.DiscardNoUnref && !geometry.HasDataFile);
            return new WriteSide(
                tables,
                refcounts,
                epoch,
                metadata,
                new WritePreparation(dataFile ?? file, geometry, tables, lookup, metadata),
                new WriteCommit(geometry, tables, metadata),
                new CompressedWrite(file, geometry, tables, metadata, space, compressed, header.CompressionType),
                drop,
                new Qcow2Resize(file, geometry, tables, lookup, metadata, drop, rawData),
                openBitmaps?.MoveTo(tables, metadata) ?? await PersistentBitmapStore.OpenAsync(file, geometry, tables, metadata, directory, header.Size),
                rawData);
        }
    }
}
