namespace BlockMount.Formats.Qcow2.Allocation;

/// <summary>Why clusters became free.</summary>
public enum FreeReason
{
    /// <summary>The guest discarded or zeroed them, or the disk became shorter.</summary>
    Request,

    /// <summary>They belonged to a snapshot that was deleted.</summary>
    Snapshot,

    /// <summary>Anything else: moved tables, compressed or shared clusters that were overwritten.</summary>
    Other,
}

/// <summary>Which freed clusters give their space back to the host file (options pass-discard-request, -snapshot, -other; FEATURES F36). Immutable.</summary>
public readonly record struct DiscardPolicy(bool PassRequest, bool PassSnapshot, bool PassOther)
{
    /// <summary>True if clusters freed for <paramref name="reason"/> are punched out of the file.</summary>
    public bool Passes(FreeReason reason) => reason switch
    {
        FreeReason.Request => PassRequest,
        FreeReason.Snapshot => PassSnapshot,
        _ => PassOther,
    };
}
