using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Formats.Qcow2.Allocation;
using BlockMount.Formats.Qcow2.Compression;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Formats.Qcow2.Snapshots;
using BlockMount.Formats.Qcow2.Translation;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2;

/// <summary>
/// The qcow2 format, versions 2 and 3. A facade: translation, allocation and write-back live in the folders of those names, and
/// Metadata/README.md states the order of writes. Owns its file.
/// </summary>
public sealed class Qcow2Driver : FormatDriver
{
    private readonly StorageFile _file;
    private readonly Qcow2OpenOptions _options;
    private readonly Geometry _geometry;
    private readonly CompressedClusters _compressed;

    // Replaced only by SwitchAsync, under exclusive use.
    private Qcow2Header _header;
    private MappingLookup _lookup;
    private WriteSide? _write;

    // Changed only by ResizeAsync and SwitchAsync, under exclusive use.
    private long _virtualSize;

    // Set under exclusive use when nobody knows which tables the header names: writing in place might change a snapshot.
    private BlockIOException? _switchFailure;

    private Qcow2Driver(
        StorageFile file,
        Qcow2OpenOptions options,
        Qcow2Header header,
        Geometry geometry,
        MappingLookup lookup,
        CompressedClusters compressed,
        WriteSide? write)
    {
        _file = file;
        _options = options;
        _header = header;
        _geometry = geometry;
        _lookup = lookup;
        _compressed = compressed;
        _write = write;
        Snapshots = new Qcow2Snapshots(this, file, options.DiscardToHost);
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
    public override long AllocatedBytes => _file.AllocatedBytes;

    /// <inheritdoc/>
    public override BackingReference? Backing => _header.Backing;

    /// <inheritdoc/>
    public override IInternalSnapshots Snapshots { get; }

    /// <summary>The header as it was when the image was opened or its snapshots last changed.</summary>
    public Qcow2Header Header => _header;

    /// <summary>
    /// Opens the image in <paramref name="file"/>, which must be opened for writing unless the options say read-only. On success the
    /// driver owns the file; on failure the caller still does. A writable open clears the autoclear bits, because this program does not keep
    /// what they stand for.
    /// </summary>
    /// <exception cref="ImageFormatException">Not a usable image; see <see cref="FeaturePolicy"/>.</exception>
    /// <exception cref="BlockIOException">The file cannot be read or written.</exception>
    public static async ValueTask<Qcow2Driver> OpenAsync(StorageFile file, Qcow2OpenOptions options)
    {
        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file);
        FeaturePolicy.CheckOpen(header, options.ReadOnly, file.Name);
        Geometry geometry = new(header);
        if (options.Snapshot is not null)
        {
            header = await SnapshotAsDevice.SelectAsync(file, header, geometry, options);
        }

        L1Table l1 = await L1Table.LoadAsync(file, header.L1TableOffset, header.L1Size, (int)geometry.L1EntriesFor(header.Size));
        MetadataCache l2 = new(file, geometry.SliceSize, Slices(options.CacheBytes / 4 * 3, geometry));
        GuestTables tables = new(file, geometry, l1, l2);
        MappingLookup lookup = new(file, geometry, tables);
        CompressedClusters compressed = new(ClusterDecompressor.For(header.CompressionType), geometry.ClusterSize);
        WriteSide? write = options.ReadOnly ? null : await WriteSide.OpenAsync(file, header, geometry, tables, lookup, compressed, options);
        return new Qcow2Driver(file, options, header, geometry, lookup, compressed, write);
    }

    /// <inheritdoc/>
    public override MapLease EnterLease() => _write is null ? default : _write.Epoch.Enter();

    /// <inheritdoc/>
    public override ValueTask ReadCompressedAsync(Mapping mapping, long offset, Memory<byte> buffer) =>
        _compressed.ReadAsync(mapping, _geometry.OffsetInCluster(offset), buffer);

    /// <inheritdoc/>
    public override ValueTask CommitWriteAsync(PendingAllocation allocation) => Writable.Commit.CommitAsync((Qcow2Allocation)allocation);

    /// <inheritdoc/>
    public override ValueTask AbandonWriteAsync(PendingAllocation allocation) => Writable.Commit.AbandonAsync((Qcow2Allocation)allocation);

    /// <inheritdoc/>
    public override ValueTask<bool> ZeroAsync(long offset, long length, ZeroFlags flags) =>
        Writable.Drop.ZeroAsync(_geometry.GuestClusterOf(offset), _geometry.ClustersFor(length), flags);

    /// <inheritdoc/>
    public override ValueTask DiscardAsync(long offset, long length) =>
        Writable.Drop.DiscardAsync(_geometry.GuestClusterOf(offset), _geometry.ClustersFor(length));

    /// <inheritdoc/>
    public override ValueTask FlushAsync() => _write is null ? ValueTask.CompletedTask : _write.Metadata.FlushAsync();

    /// <inheritdoc/>
    public override async ValueTask ResizeAsync(long size, Func<ValueTask>? fillNewSpace = null)
    {
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
            await GrowAsync(size, fillNewSpace);
        }
        else if (size < _virtualSize)
        {
            await Writable.Resize.WriteSizeAsync(size);
            // From here on the disk is short, whatever becomes of the clusters behind its end.
            _virtualSize = size;
            await Writable.Resize.FreeBeyondAsync(size);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        try
        {
            if (_write is not null)
            {
                await _write.Metadata.FlushForCloseAsync();
            }
        }
        finally
        {
            await _file.DisposeAsync();
        }
    }

    /// <inheritdoc/>
    protected override ValueTask<Mapping> MapCoreAsync(long offset, long length, MapPurpose purpose) =>
        _lookup.TryMap(offset, length, out Mapping mapping) ? new ValueTask<Mapping>(mapping) : MapSlowAsync(offset, length);

    /// <inheritdoc/>
    protected override ValueTask<WritePlan> PrepareWriteCoreAsync(long offset, long length) =>
        _switchFailure is null && _lookup.TryPlanInPlace(offset, length, out WritePlan plan)
            ? new ValueTask<WritePlan>(plan)
            : Writable.Preparation.PrepareAsync(offset, length);

    private async ValueTask GrowAsync(long size, Func<ValueTask>? fillNewSpace)
    {
        long oldSize = _virtualSize;
        await Writable.Resize.MakeRoomAsync(oldSize, size);
        try
        {
            _virtualSize = size;
            if (fillNewSpace is not null)
            {
                await fillNewSpace();
            }

            await Writable.Resize.WriteSizeAsync(size);
        }
        catch
        {
            _virtualSize = oldSize;
            throw;
        }
    }

    private WriteSide Writable
    {
        get
        {
            if (_write is null)
            {
                throw new BlockIOException(Errno.EROFS, $"change of '{_file.Name}'");
            }

            return _switchFailure is null
                ? _write
                : throw new BlockIOException(
                    _switchFailure.Errno, $"change of '{_file.Name}' after its header could not be changed", "Close the image and open it again", _switchFailure);
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
        if (!write.Metadata.IsQuarantineEmpty)
        {
            throw new BlockIOException(Errno.EIO, $"freeing clusters of '{_file.Name}' before its tables are changed");
        }

        ShadowChange change = new(_file, _geometry, write.Tables, write.Metadata);
        try
        {
            HeaderSwitch next = await plan(new ShadowContext(_header, _virtualSize, write.Tables.L1, write.Refcounts, change));
            // Opened before the switch, so that nothing can fail after it. The autoclear bits were cleared when the image was opened.
            Qcow2Header header = next.ApplyTo(_header) with { AutoclearFeatures = 0 };
            (MappingLookup lookup, WriteSide newWrite) = await OpenTablesAsync(header);
            await change.SwitchAsync(next);
            _header = header;
            _lookup = lookup;
            _write = newWrite;
            _virtualSize = next.Size;
            _compressed.Clear();
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

    private async ValueTask<(MappingLookup Lookup, WriteSide Write)> OpenTablesAsync(Qcow2Header header)
    {
        L1Table l1 = await L1Table.LoadAsync(_file, header.L1TableOffset, header.L1Size, (int)_geometry.L1EntriesFor(header.Size));
        MetadataCache l2 = new(_file, _geometry.SliceSize, Slices(_options.CacheBytes / 4 * 3, _geometry));
        GuestTables tables = new(_file, _geometry, l1, l2);
        MappingLookup lookup = new(_file, _geometry, tables);
        return (lookup, await WriteSide.OpenAsync(_file, header, _geometry, tables, lookup, _compressed, _options));
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

    private static int Slices(long bytes, Geometry geometry) => (int)Math.Clamp(bytes / geometry.SliceSize, 2, int.MaxValue);

    /// <summary>What a writable image has beyond a readable one.</summary>
    private sealed class WriteSide
    {
        private WriteSide(
            GuestTables tables, RefcountTable refcounts, ReclaimEpoch epoch, MetadataWriter metadata, WritePreparation preparation, WriteCommit commit, DropClusters drop, Qcow2Resize resize)
        {
            Tables = tables;
            Refcounts = refcounts;
            Epoch = epoch;
            Metadata = metadata;
            Preparation = preparation;
            Commit = commit;
            Drop = drop;
            Resize = resize;
        }

        internal GuestTables Tables { get; }

        internal RefcountTable Refcounts { get; }

        internal ReclaimEpoch Epoch { get; }

        internal MetadataWriter Metadata { get; }

        internal WritePreparation Preparation { get; }

        internal WriteCommit Commit { get; }

        internal DropClusters Drop { get; }

        internal Qcow2Resize Resize { get; }

        internal static async ValueTask<WriteSide> OpenAsync(
            StorageFile file,
            Qcow2Header header,
            Geometry geometry,
            GuestTables tables,
            MappingLookup lookup,
            CompressedClusters compressed,
            Qcow2OpenOptions options)
        {
            MetadataCache blocks = new(file, geometry.SliceSize, Slices(options.CacheBytes / 4, geometry));
            WriteBackOrder order = new(file, blocks, tables.L2);
            HostRun location = new(geometry.HostClusterOf(header.RefcountTableOffset), header.RefcountTableClusters);
            RefcountTable refcounts = await RefcountTable.LoadAsync(file, geometry, blocks, order, location);
            if (header.AutoclearFeatures != 0)
            {
                await HeaderUpdate.WriteAutoclearFeaturesAsync(file, order, 0);
            }

            ClusterAllocator allocator = new(file, geometry, refcounts, order);
            ReclaimEpoch epoch = new();
            FreedClusters freed = new(file, geometry, allocator, epoch, options.DiscardToHost);
            MetadataWriter metadata = new(file, geometry, tables, allocator, freed, order, compressed.Clear);
            DropClusters drop = new(geometry, tables, metadata, header.Backing is not null);
            return new WriteSide(
                tables,
                refcounts,
                epoch,
                metadata,
                new WritePreparation(file, geometry, tables, lookup, metadata),
                new WriteCommit(geometry, tables, metadata),
                drop,
                new Qcow2Resize(file, geometry, tables, lookup, metadata, drop));
        }
    }
}
