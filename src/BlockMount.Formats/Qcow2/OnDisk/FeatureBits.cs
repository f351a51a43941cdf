namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>The three feature fields of a version 3 header, as the feature name table numbers them.</summary>
public enum FeatureKind
{
    /// <summary>Who does not know a set bit must not open the image.</summary>
    Incompatible = 0,

    /// <summary>Who does not know a set bit may ignore it and must keep it.</summary>
    Compatible = 1,

    /// <summary>Who does not know a set bit must clear it before writing to the image.</summary>
    Autoclear = 2,
}

/// <summary>Masks of the feature bits that the specification names.</summary>
public static class FeatureBits
{
    /// <summary>Incompatible: refcounts may be stale (a lazy writer did not close the image).</summary>
    public const ulong Dirty = 1UL << 0;

    /// <summary>Incompatible: a structure was found damaged; no writing before a repair.</summary>
    public const ulong Corrupt = 1UL << 1;

    /// <summary>Incompatible: guest data lives in another file.</summary>
    public const ulong ExternalDataFile = 1UL << 2;

    /// <summary>Incompatible: the header's compression type is not deflate.</summary>
    public const ulong CompressionType = 1UL << 3;

    /// <summary>Incompatible: L2 entries of 128 bits with 32 subclusters each.</summary>
    public const ulong ExtendedL2 = 1UL << 4;

    /// <summary>Compatible: refcounts may be written lazily, under the dirty bit.</summary>
    public const ulong LazyRefcounts = 1UL << 0;

    /// <summary>Autoclear: the bitmaps extension is consistent.</summary>
    public const ulong Bitmaps = 1UL << 0;

    /// <summary>Autoclear: the external data file is a valid raw image by itself.</summary>
    public const ulong RawExternalData = 1UL << 1;

    /// <summary>The incompatible bits that have a meaning for this program; any other is refused.</summary>
    public const ulong IncompatibleKnown = Dirty | Corrupt | ExternalDataFile | CompressionType | ExtendedL2;

    /// <summary>
    /// The autoclear bits that stay true while this program writes: bitmaps are marked in use as long as the image is open (Bitmaps/README.md), and
    /// zeroes and discards reach a raw data file too. A writable open clears the others.
    /// </summary>
    public const ulong AutoclearMaintained = Bitmaps | RawExternalData;
}
