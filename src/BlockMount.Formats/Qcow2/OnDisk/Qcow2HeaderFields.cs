namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>
/// Where each field of the header lies, in bytes from the start of the file; all are big-endian and inside the first 512
/// bytes, so a single field can be changed in place without tearing. The comment gives the width in bits.
/// </summary>
public static class Qcow2HeaderFields
{
    public const int Magic = 0;                   // 32
    public const int Version = 4;                 // 32
    public const int BackingFileOffset = 8;       // 64
    public const int BackingFileSize = 16;        // 32
    public const int ClusterBits = 20;            // 32
    public const int Size = 24;                   // 64
    public const int CryptMethod = 32;            // 32
    public const int L1Size = 36;                 // 32
    public const int L1TableOffset = 40;          // 64
    public const int RefcountTableOffset = 48;    // 64
    public const int RefcountTableClusters = 56;  // 32
    public const int SnapshotCount = 60;          // 32
    public const int SnapshotsOffset = 64;        // 64

    /// <summary>Bytes of a version 2 header; what follows exists in version 3 only.</summary>
    public const int Version2Length = 72;

    public const int IncompatibleFeatures = 72;   // 64
    public const int CompatibleFeatures = 80;     // 64
    public const int AutoclearFeatures = 88;      // 64
    public const int RefcountOrder = 96;          // 32
    public const int HeaderLength = 100;          // 32

    /// <summary>Least bytes of a version 3 header.</summary>
    public const int Version3LengthMin = 104;

    public const int CompressionType = 104;       // 8, then 7 bytes of padding

    /// <summary>Bytes of the fixed header that this program knows and writes in version 3.</summary>
    public const int KnownLength = 112;
}
