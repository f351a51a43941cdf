using BlockMount.Formats.Qcow2.Compression;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Formats.Qcow2.Snapshots;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2;

/// <summary>What stays the same as long as an image is open, whichever tables are in force. Owns nothing: the file belongs to the driver.</summary>
/// <param name="File">The image.</param>
/// <param name="Options">As it was opened.</param>
/// <param name="Geometry">Sizes, with that of the cached slices.</param>
/// <param name="Compressed">Reads compressed clusters.</param>
/// <param name="Health">What becomes of damage that is found.</param>
/// <param name="Features">The only writer of the incompatible features; null for a read-only image and for version 2, which has none.</param>
internal sealed record OpenImage(
    StorageFile File, Qcow2OpenOptions Options, Geometry Geometry, CompressedClusters Compressed, ImageHealth Health, IncompatibleFeatures? Features)
{
    /// <summary>The data file if it is a raw image of the disk, otherwise null. Decided by the header as it was when the image was opened.</summary>
    internal RawDataFile? RawData { get; private init; }

    /// <summary>
    /// Reads the header of <paramref name="file"/> and decides whether the image can be used as the options ask; repairs a dirty one before it is
    /// written to.
    /// </summary>
    /// <returns>The header is that of the snapshot if the options name one.</returns>
    /// <exception cref="ImageFormatException">Not a usable image; see <see cref="FeaturePolicy"/>.</exception>
    /// <exception cref="Base.BlockIOException">The file cannot be read, or not repaired.</exception>
    internal static async ValueTask<(OpenImage Image, Qcow2Header Header)> LoadAsync(StorageFile file, Qcow2OpenOptions options)
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
        RawDataFile? rawData = header.HasRawDataFile ? new RawDataFile(options.DataFile!, options.DiscardToHost) : null;
        return (new OpenImage(file, options, geometry, compressed, health, features) { RawData = rawData }, header);
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
}
