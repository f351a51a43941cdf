namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>The names of overlap checks, as QEMU's options have them: what follows "overlap-check." and what "overlap-check" takes. Immutable.</summary>
public static class MetadataKindNames
{
    /// <summary>Each kind by its name.</summary>
    public static IReadOnlyDictionary<string, MetadataKinds> Kinds { get; } = new Dictionary<string, MetadataKinds>
    {
        ["main-header"] = MetadataKinds.MainHeader,
        ["active-l1"] = MetadataKinds.ActiveL1,
        ["active-l2"] = MetadataKinds.ActiveL2,
        ["refcount-table"] = MetadataKinds.RefcountTable,
        ["refcount-block"] = MetadataKinds.RefcountBlock,
        ["snapshot-table"] = MetadataKinds.SnapshotTable,
        ["inactive-l1"] = MetadataKinds.InactiveL1,
        ["inactive-l2"] = MetadataKinds.InactiveL2,
        ["bitmap-directory"] = MetadataKinds.BitmapDirectory,
    };

    /// <summary>Sets of kinds by their names.</summary>
    public static IReadOnlyDictionary<string, MetadataKinds> Templates { get; } = new Dictionary<string, MetadataKinds>
    {
        ["none"] = MetadataKinds.None,
        ["constant"] = MetadataKinds.Constant,
        ["cached"] = MetadataKinds.Cached,
        ["all"] = MetadataKinds.All,
    };
}
