using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Formats.Qcow2.Allocation;
using BlockMount.Formats.Qcow2.Bitmaps;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Formats.Qcow2.Snapshots;
using BlockMount.Formats.Qcow2.Translation;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2;

/// <summary>
/// The qcow2 format, versions 2 and 3. A facade: translation, allocation and write-back live in the folders of those names, and
/// Metadata/README.md states the order of writes. What stays the same while the image is open is in <see cref="OpenImage"/>, what depends on the
/// tables in force in <see cref="OpenTables"/>, and what only a writable image has in <see cref="WriteSide"/>. Owns its file and its data file, unless the options
/// say otherwise.
/// </summary>
public sealed class Qcow2Driver : FormatDriver
{
    private readonly OpenImage _image;
    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly ImageHealth _health;

    // Changed only under exclusive use, by ResizeAsync, SetBackingReferenceAsync and SwitchAsync.
    private long _virtualSize;
    private Qcow2Header _header;

    // Replaced only under exclusive use, by SwitchAsync.
    private MappingLookup _lookup;
    private WriteSide? _write;
    private CacheCleaner? _cleaner;

    // Set under exclusive use when nobody knows which tables the header names: writing in place might change a snapshot.
    private BlockIOException? _switchFailure;

    private Qcow2Driver(OpenImage image, Qcow2Header header, OpenTables tables)
    {
        _image = image;
        _file = image.File;
        _geometry = image.Geometry;
        _health = image.Health;
        _header = header;
        _lookup = tables.Lookup;
        _write = tables.Write;
        _cleaner = tables.StartCleaner(image.Options);
        Snapshots = new Qcow2Snapshots(this, _file, discardFreed: image.Options.PassDiscardSnapshot);
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
    public override int ZeroUnit => _image.RawData is null ? _geometry.SubclusterSize : 1;

    /// <inheritdoc/>
    public override long AllocatedBytes => _file.AllocatedBytes + (_image.Options.DataFile?.AllocatedBytes ?? 0);

    /// <inheritdoc/>
    public override BackingReference? Backing => _header.Backing;

    /// <inheritdoc/>
    public override IInternalSnapshots Snapshots { get; }

    /// <summary>The header as it was when the image was opened or its snapshots last changed, with the backing reference of today.</summary>
    public Qcow2Header Header => _header;

    /// <summary>
    /// The persistent bitmaps of a writable image; null if the image is open read-only (see <see cref="LoadBitmapsAsync"/>). Another object after each change
    /// of the snapshots; the one of before refuses every call.
    /// </summary>
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
        (OpenImage image, Qcow2Header header) = await OpenImage.LoadAsync(file, options);
        return new Qcow2Driver(image, header, await OpenTables.OpenAsync(image, header, bitmaps: null));
    }

    /// <inheritdoc/>
    public override MapLease EnterLease() => _write is null ? default : _write.Epoch.Enter();

    /// <inheritdoc/>
    public override bool TryMapCached(long offset, long length, out Mapping mapping) => _lookup.TryMapCached(offset, length, out mapping);

    /// <inheritdoc/>
    public override ValueTask ReadCompressedAsync(Mapping mapping, long offset, Memory<byte> buffer) =>
        _image.Compressed.ReadAsync(mapping, _geometry.OffsetInCluster(offset), buffer);

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
        return Writable.ZeroAsync(offset, length, _virtualSize, flags);
    }

    /// <inheritdoc/>
    public override ValueTask DiscardAsync(long offset, long length)
    {
        Writable.Bitmaps.GuestDataChanged();
        return Writable.DiscardAsync(offset, length);
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
    public override ValueTask DisposeAsync() => CloseAsync(isFlushed: false);

    /// <inheritdoc/>
    public override ValueTask CloseFlushedAsync() => CloseAsync(isFlushed: true);

    private async ValueTask CloseAsync(bool isFlushed)
    {
        try
        {
            if (_cleaner is not null)
            {
                await _cleaner.DisposeAsync();
            }

            if (_write is not null)
            {
                await _write.Metadata.FlushForCloseAsync(isFlushed);
                await _write.Bitmaps.CloseAsync();
            }
        }
        finally
        {
            await _health.Recorded;
            if (!_image.Options.LeaveFilesOpen)
            {
                await CloseFilesAsync();
            }
        }
    }

    /// <inheritdoc/>
    protected override ValueTask<Mapping> MapCoreAsync(long offset, long length, MapPurpose purpose)
    {
        if (purpose == MapPurpose.Status && _image.RawData is not null)
        {
            return MapHolesAsync(_image.RawData, offset, length);
        }

        return _lookup.TryMap(offset, length, out Mapping mapping) ? new ValueTask<Mapping>(mapping) : MapSlowAsync(offset, length);
    }

    /// <inheritdoc/>
    protected override ValueTask<WritePlan> PrepareWriteCoreAsync(long offset, long length)
    {
        _health.ThrowIfCorrupt("write");
        Writable.Bitmaps.GuestDataChanged();
        return _lookup.TryPlanInPlace(offset, length, out WritePlan plan)
            ? new ValueTask<WritePlan>(plan)
            : Writable.Preparation.PrepareAsync(offset, length, _virtualSize);
    }

    private async ValueTask CloseFilesAsync()
    {
        try
        {
            await (_image.Options.DataFile?.DisposeAsync() ?? ValueTask.CompletedTask);
        }
        finally
        {
            await _file.DisposeAsync();
        }
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
        await write.Metadata.FlushForCloseAsync(isFlushed: false);
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
            OpenTables opened = await OpenTables.OpenAsync(_image, header, write.Bitmaps);
            await change.SwitchAsync(next);
            write.Bitmaps.TablesWereReplaced();
            _header = header;
            _lookup = opened.Lookup;
            _write = opened.Write;
            _virtualSize = next.Size;
            _image.Compressed.Clear();
            await (_cleaner?.DisposeAsync() ?? ValueTask.CompletedTask);
            _cleaner = opened.StartCleaner(_image.Options);
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

    private async ValueTask<Mapping> MapHolesAsync(RawDataFile rawData, long offset, long length) =>
        await rawData.FindHolesAsync(_lookup.TryMap(offset, length, out Mapping mapping) ? mapping : await MapSlowAsync(offset, length));

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
}
