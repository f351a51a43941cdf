using System.Text;

namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>
/// The header of a qcow2 image, decoded (qcow2 specification, "Header"). All offsets are host offsets in bytes. A value of this
/// type that came from <see cref="Qcow2HeaderReader"/> has passed every bound that does not need the rest of the file; whether
/// this program can work with the image's features is decided by <see cref="FeaturePolicy"/>.
/// </summary>
public sealed record Qcow2Header
{
    /// <summary>Magic "QFI\xfb".</summary>
    public const uint Magic = 0x514649fb;

    /// <summary>2 or 3.</summary>
    public required int Version { get; init; }

    /// <summary>log2 of the cluster size: 9 to 21.</summary>
    public required int ClusterBits { get; init; }

    /// <summary>Virtual size in bytes: a multiple of 512 (a stored odd tail is not addressable and is cut off, as QEMU does).</summary>
    public required long Size { get; init; }

    /// <summary>0 none, 1 AES, 2 LUKS.</summary>
    public int CryptMethod { get; init; }

    /// <summary>Entries of the active L1 table.</summary>
    public required int L1Size { get; init; }

    public required long L1TableOffset { get; init; }

    public required long RefcountTableOffset { get; init; }

    /// <summary>Clusters that the refcount table occupies.</summary>
    public required int RefcountTableClusters { get; init; }

    /// <summary>log2 of a refcount's width in bits: 0 to 6; always 4 in version 2.</summary>
    public int RefcountOrder { get; init; } = 4;

    public int SnapshotCount { get; init; }

    public long SnapshotsOffset { get; init; }

    public ulong IncompatibleFeatures { get; init; }

    public ulong CompatibleFeatures { get; init; }

    public ulong AutoclearFeatures { get; init; }

    /// <summary>Bytes of the fixed header as stored: 72 in version 2, at least 104 in version 3.</summary>
    public int HeaderLength { get; init; } = 112;

    /// <summary>0 deflate, 1 zstd.</summary>
    public byte CompressionType { get; init; }

    /// <summary>The backing file as named by the image; null if none.</summary>
    public BackingReference? Backing { get; init; }

    /// <summary>The external data file as named by the image; null if it names none or has none.</summary>
    public string? DataFileName => HasDataFile && FindExtension(HeaderExtensionType.DataFileName) is { } extension
        ? Encoding.UTF8.GetString(extension.Data.Span)
        : null;

    /// <summary>Bytes of the fixed header from 112 on: fields of a later revision, kept as they are.</summary>
    public ReadOnlyMemory<byte> UnknownHeaderBytes { get; init; }

    /// <summary>
    /// The header extensions in file order, known and unknown, except the end marker and the backing format (which is
    /// <see cref="BackingReference.Format"/>).
    /// </summary>
    public IReadOnlyList<HeaderExtension> Extensions { get; init; } = [];

    /// <summary>Bytes of a cluster: 512 to 2 MiB.</summary>
    public int ClusterSize => 1 << ClusterBits;

    /// <summary>Bytes of an L2 entry: 8, or 16 with subclusters.</summary>
    public int L2EntrySize => HasIncompatible(FeatureBits.ExtendedL2) ? 16 : 8;

    /// <summary>Guest data lives in another file.</summary>
    public bool HasDataFile => HasIncompatible(FeatureBits.ExternalDataFile);

    /// <summary>
    /// The data file is a valid raw image of the disk, and writers keep it so. A backing file cannot show through there: with one the bit is not believed.
    /// </summary>
    public bool HasRawDataFile => HasDataFile && (AutoclearFeatures & FeatureBits.RawExternalData) != 0 && Backing is null;

    /// <summary>True if any bit of <paramref name="mask"/> is set in the incompatible features.</summary>
    public bool HasIncompatible(ulong mask) => (IncompatibleFeatures & mask) != 0;

    /// <summary>True if any bit of <paramref name="mask"/> is set in the compatible features.</summary>
    public bool HasCompatible(ulong mask) => (CompatibleFeatures & mask) != 0;

    /// <summary>The same header with <paramref name="data"/> as its only extension of <paramref name="type"/>; null removes it.</summary>
    public Qcow2Header WithExtension(uint type, ReadOnlyMemory<byte>? data)
    {
        List<HeaderExtension> extensions = [.. Extensions.Where(extension => extension.Type != type)];
        if (data is { } content)
        {
            extensions.Add(new HeaderExtension(type, content));
        }

        return this with { Extensions = extensions };
    }

    /// <summary>The first extension of <paramref name="type"/>, or null.</summary>
    public HeaderExtension? FindExtension(uint type)
    {
        foreach (HeaderExtension extension in Extensions)
        {
            if (extension.Type == type)
            {
                return extension;
            }
        }

        return null;
    }
}
