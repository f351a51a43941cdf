using BlockMount.Formats.Qcow2.Bitmaps;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Formats.Qcow2.Translation;

namespace BlockMount.Formats.Qcow2;

/// <summary>
/// What depends on the tables that the header names: their caches and everything that works through them. Replaced as a whole when other tables
/// come into force, so that nothing in memory can be left over from the old ones.
/// </summary>
/// <param name="Lookup">Answers where guest data is.</param>
/// <param name="Write">Null for a read-only image.</param>
/// <param name="Caches">Those of the L2 tables and of the refcount blocks.</param>
internal sealed record OpenTables(MappingLookup Lookup, WriteSide? Write, IReadOnlyList<MetadataCache> Caches)
{
    /// <summary>Loads the tables with empty caches and a fresh map of metadata clusters. Writes nothing unless the image is being opened for writing.</summary>
    /// <param name="header">Names the tables; it need not be the one in the file yet.</param>
    /// <param name="bitmaps">Those of the same image, which is open already; null when it is being opened.</param>
    /// <exception cref="ImageFormatException">The tables cannot be used.</exception>
    /// <exception cref="Base.BlockIOException">The file cannot be read or written.</exception>
    internal static async ValueTask<OpenTables> OpenAsync(OpenImage image, Qcow2Header header, PersistentBitmapStore? bitmaps)
    {
        Geometry geometry = image.Geometry;
        CacheSizes sizes = CacheSizes.For(header, image.Options, image.File.Name);
        OverlapChecks checks = new(geometry, image.Health, new MetadataMap(), image.Options.OverlapCheck);
        L1Table l1 = await L1Table.LoadAsync(image.File, header.L1TableOffset, header.L1Size, (int)geometry.L1EntriesFor(header.Size));
        MetadataCache l2 = new(image.File, sizes.L2SliceSize, sizes.L2Slices);
        GuestTables tables = new(image.Health, geometry, l1, l2);
        MappingLookup lookup = new(image.File, image.Options.DataFile ?? image.File, geometry, tables, checks);
        MetadataCache refcounts = new(image.File, geometry.RefcountSliceSize, sizes.RefcountSlices);
        WriteSide? write = image.Options.ReadOnly ? null : await WriteSide.OpenAsync(image, header, tables, refcounts, lookup, checks, bitmaps);
        return new OpenTables(lookup, write, [l2, refcounts]);
    }

    /// <summary>Watches the caches; the caller disposes it. Null if they are to stay as they are.</summary>
    internal CacheCleaner? StartCleaner(Qcow2OpenOptions options) =>
        options.CacheCleanInterval > TimeSpan.Zero ? new CacheCleaner(options.Time, options.CacheCleanInterval, Caches) : null;
}
