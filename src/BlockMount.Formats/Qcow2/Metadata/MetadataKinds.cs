namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// The structures of a qcow2 image that no guest data and no other structure may overwrite, and the sets of them that the option
/// overlap-check.template names (FEATURES F38).
/// </summary>
[Flags]
public enum MetadataKinds
{
    None = 0,
    MainHeader = 1 << 0,
    ActiveL1 = 1 << 1,
    ActiveL2 = 1 << 2,
    RefcountTable = 1 << 3,
    RefcountBlock = 1 << 4,
    SnapshotTable = 1 << 5,
    InactiveL1 = 1 << 6,
    InactiveL2 = 1 << 7,
    BitmapDirectory = 1 << 8,

    /// <summary>Structures that stay where they are.</summary>
    Constant = MainHeader | ActiveL1 | RefcountTable | SnapshotTable | BitmapDirectory,

    /// <summary>Everything whose place is known from tables that are in memory anyway.</summary>
    Cached = Constant | ActiveL2 | RefcountBlock | InactiveL1,

    /// <summary>Also the L2 tables of snapshots, whose L1 tables are read for that when the image is opened.</summary>
    All = Cached | InactiveL2,
}
