namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>
/// Upper and lower bounds of the format. Those that the specification leaves open are QEMU's, so that every image that we
/// write can be opened there, and the other way round.
/// </summary>
public static class Qcow2Limits
{
    public const int ClusterBitsMin = 9;
    public const int ClusterBitsMax = 21;

    /// <summary>Subclusters need clusters of 16 KiB and more.</summary>
    public const int ExtendedL2ClusterBitsMin = 14;

    public const int L1TableBytesMax = 32 << 20;
    public const int RefcountTableBytesMax = 8 << 20;
    public const int RefcountOrderMax = 6;

    /// <summary>Host offsets have 56 bits.</summary>
    public const long HostOffsetEnd = 1L << 56;

    public const int BackingFileNameBytesMax = 1023;
    public const int BackingFormatBytesMax = 15;

    /// <summary>Extensions in one header. A cluster of 2 MiB has room for 2^18 empty ones, and nobody has use for them.</summary>
    public const int ExtensionCountMax = 4096;

    public const int SnapshotCountMax = 65536;
    public const int SnapshotTableBytesMax = 64 << 20;
    public const int SnapshotExtraBytesMax = 1024;

    /// <summary>Bytes of a snapshot's entry without its variable parts.</summary>
    public const int SnapshotEntryBytesMin = 40;

    public const int BitmapCountMax = 65535;
    public const int BitmapDirectoryBytesMax = BitmapCountMax * 1024;
    public const int BitmapNameBytesMax = 1023;
    public const int BitmapGranularityBitsMin = 9;
    public const int BitmapGranularityBitsMax = 31;
    public const long BitmapTableEntriesMax = 0x8000000;

    /// <summary>Bytes of one bitmap, in whole clusters.</summary>
    public const long BitmapBytesMax = 512L << 20;

    /// <summary>Bytes of a bitmap directory entry without its variable parts.</summary>
    public const int BitmapEntryBytesMin = 24;
}
