using BlockMount.Formats.Qcow2.Allocation;
using BlockMount.Formats.Qcow2.Bitmaps;
using BlockMount.Formats.Qcow2.Compression;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Formats.Qcow2.Translation;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2;

/// <summary>
/// What a writable image has beyond a readable one, for the tables of one <see cref="OpenTables"/>. Holds the parts together and has no state of its
/// own; each part states its threading.
/// </summary>
internal sealed class WriteSide
{
    private readonly Geometry _geometry;

    private WriteSide(Geometry geometry)
    {
        _geometry = geometry;
    }

    /// <summary>The active guest tables.</summary>
    internal required GuestTables Tables { get; init; }

    /// <summary>The refcounts in force.</summary>
    internal required RefcountTable Refcounts { get; init; }

    /// <summary>Tells when a freed cluster has no reader left.</summary>
    internal required ReclaimEpoch Epoch { get; init; }

    /// <summary>The metadata mutex and what works under it.</summary>
    internal required MetadataWriter Metadata { get; init; }

    /// <summary>Finds places for writes.</summary>
    internal required WritePreparation Preparation { get; init; }

    /// <summary>Links what was written.</summary>
    internal required WriteCommit Commit { get; init; }

    /// <summary>Writes compressed clusters.</summary>
    internal required CompressedWrite Compressed { get; init; }

    /// <summary>Zeroes and discards.</summary>
    internal required DropClusters Drop { get; init; }

    /// <summary>Changes the virtual size.</summary>
    internal required Qcow2Resize Resize { get; init; }

    /// <summary>The persistent bitmaps.</summary>
    internal required PersistentBitmapStore Bitmaps { get; init; }

    /// <summary>Null unless the data file is a raw image of the disk.</summary>
    internal required RawDataFile? RawData { get; init; }

    /// <summary>
    /// Loads what writing needs and registers every table with <paramref name="checks"/>. Of an image that is being opened the autoclear bits of what this
    /// program does not keep true are cleared, and persistent bitmaps are marked as in use.
    /// </summary>
    /// <param name="blocks">The empty cache of refcount blocks.</param>
    /// <param name="checks">With nothing registered yet.</param>
    /// <param name="openBitmaps">As for <see cref="OpenTables.OpenAsync"/>: if not null, the file is only read.</param>
    internal static async ValueTask<WriteSide> OpenAsync(
        OpenImage image,
        Qcow2Header header,
        GuestTables tables,
        MetadataCache blocks,
        MappingLookup lookup,
        OverlapChecks checks,
        PersistentBitmapStore? openBitmaps)
    {
        (StorageFile file, Qcow2OpenOptions options, Geometry geometry, CompressedClusters compressed, _, IncompatibleFeatures? features) = image;
        bool isLazy = options.LazyRefcounts ?? header.HasCompatible(FeatureBits.LazyRefcounts);
        WriteBackOrder order = new(file, blocks, tables.L2, checks, isLazy ? features : null, options.DataFile);
        HostRun location = new(geometry.HostClusterOf(header.RefcountTableOffset), header.RefcountTableClusters);
        RefcountTable refcounts = await RefcountTable.LoadAsync(file, geometry, blocks, order, checks, location);
        await TableRegistration.RunAsync(file, header, geometry, tables.L1, checks, options.OverlapCheck);
        BitmapDirectory directory = openBitmaps is null ? await LoadDirectoryAsync(image, header, checks, order) : BitmapDirectory.Empty;
        ClusterAllocator allocator = new(file, geometry, refcounts, order, checks);
        ReclaimEpoch epoch = new();
        DiscardPolicy discards = new(options.DiscardToHost, options.PassDiscardSnapshot, options.PassDiscardOther);
        FreedClusters freed = new(file, geometry, allocator, epoch, checks, discards);
        MetadataWriter metadata = new(file, options.DataFile, geometry, tables, allocator, freed, epoch, order, checks, compressed.Clear);
        DropClusters drop = NewDrop(image, header, tables, lookup, metadata);
        StreamSpace space = new(geometry, allocator, refcounts);
        return new WriteSide(geometry)
        {
            Tables = tables,
            Refcounts = refcounts,
            Epoch = epoch,
            Metadata = metadata,
            Preparation = new WritePreparation(options.DataFile ?? file, geometry, tables, lookup, metadata),
            Commit = new WriteCommit(geometry, tables, metadata),
            Compressed = new CompressedWrite(file, geometry, tables, metadata, space, compressed, header.CompressionType),
            Drop = drop,
            Resize = new Qcow2Resize(file, geometry, tables, lookup, metadata, drop, image.RawData),
            Bitmaps = openBitmaps?.MoveTo(tables, metadata, header.Size)
                ?? await PersistentBitmapStore.OpenAsync(file, geometry, tables, metadata, directory, header.Size),
            RawData = image.RawData,
        };
    }

    /// <summary>As <see cref="FormatDriver.ZeroAsync"/>: in a raw data file, in whole clusters, or in subclusters of one.</summary>
    /// <param name="virtualSize">Where the disk ends, in bytes.</param>
    internal async ValueTask<bool> ZeroAsync(long offset, long length, long virtualSize, ZeroFlags flags)
    {
        if (RawData is not null)
        {
            await RawData.ZeroAsync(offset, length, flags);
            return true;
        }

        GuestCluster first = _geometry.GuestClusterOf(offset);
        if (_geometry.OffsetInCluster(offset) == 0 && (_geometry.OffsetInCluster(length) == 0 || offset + length == virtualSize))
        {
            return await Drop.ZeroAsync(first, _geometry.ClustersFor(length), flags);
        }

        // A disk may end inside a cluster; what lies behind its end may become zeros too.
        int end = offset + length == virtualSize ? _geometry.L2.Subclusters : _geometry.SubclusterOf(offset + length - 1) + 1;
        int start = _geometry.SubclusterOf(offset);
        return await Drop.ZeroPartAsync(first, L2Format.MaskOf(start, end - start), flags);
    }

    /// <summary>As <see cref="FormatDriver.DiscardAsync"/>.</summary>
    internal ValueTask DiscardAsync(long offset, long length) => RawData is not null
        ? RawData.DiscardAsync(offset, length)
        : Drop.DiscardAsync(_geometry.GuestClusterOf(offset), _geometry.ClustersFor(length));

    // The tables are registered already. Autoclear bits that this program cannot vouch for go before anything else is written.
    private static async ValueTask<BitmapDirectory> LoadDirectoryAsync(OpenImage image, Qcow2Header header, OverlapChecks checks, WriteBackOrder order)
    {
        BitmapDirectory directory = await DirectoryOnDisk.LoadAsync(image.File, header, image.Geometry, checks);
        ulong maintained = FeatureBits.AutoclearMaintained
            & ~(directory.Problem is null ? 0 : FeatureBits.Bitmaps)
            & ~(header.HasRawDataFile ? 0 : FeatureBits.RawExternalData);
        if ((header.AutoclearFeatures & ~maintained) != 0)
        {
            await HeaderUpdate.WriteAutoclearFeaturesAsync(image.File, order, header.AutoclearFeatures & maintained);
        }

        return directory;
    }

    private static DropClusters NewDrop(OpenImage image, Qcow2Header header, GuestTables tables, MappingLookup lookup, MetadataWriter metadata) => new(
        image.Options.DiscardToHost ? image.Options.DataFile : null,
        image.Geometry,
        tables,
        lookup,
        metadata,
        header.Backing is not null,
        image.Options.DiscardNoUnref && !image.Geometry.HasDataFile);
}
