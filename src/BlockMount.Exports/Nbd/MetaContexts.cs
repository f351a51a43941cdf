namespace BlockMount.Exports.Nbd;

/// <summary>
/// What a client selected with SET_META_CONTEXT: the export it named and the contexts. A later selection replaces it, and it
/// counts only if the client then enters that export.
/// </summary>
internal sealed record MetaContexts(NbdExport Export, bool BaseAllocation)
{
    /// <summary>Name of the only context so far: holes and zeros.</summary>
    public const string BaseAllocationName = "base:allocation";

    /// <summary>Its id in BLOCK_STATUS replies.</summary>
    public const uint BaseAllocationId = 0;

    /// <summary>True if a LIST_META_CONTEXT query, which may be a whole namespace, covers base:allocation.</summary>
    public static bool ListMatches(string query) => query is "base:" or BaseAllocationName;

    /// <summary>True if a SET_META_CONTEXT query selects base:allocation.</summary>
    public static bool SetMatches(string query) => query is BaseAllocationName;
}

/// <summary>What the handshake agreed on.</summary>
/// <param name="Export">The export that the client entered.</param>
/// <param name="StructuredReplies">Replies may have chunks.</param>
/// <param name="BaseAllocation">BLOCK_STATUS is allowed and answers base:allocation.</param>
internal sealed record NbdSession(NbdExport Export, bool StructuredReplies, bool BaseAllocation);
