using BlockMount.Block.Options;

namespace BlockMount.Block.Graph;

/// <summary>Whether somebody above a node is going to write to it.</summary>
internal enum WriterAbove
{
    /// <summary>Nobody yet.</summary>
    None,

    /// <summary>An image that can do without.</summary>
    Wanted,

    /// <summary>An image that cannot be opened otherwise.</summary>
    Needed,
}

/// <summary>The options that a node takes over from the one it is described in, where it has none of its own. The default is what nobody is above of.</summary>
internal readonly record struct InheritedOptions
{
    internal bool ReadOnly { get; init; }

    internal bool AutoReadOnly { get; init; }

    internal bool ForceShare { get; init; }

    internal bool Direct { get; init; }

    internal bool NoFlush { get; init; }

    internal bool Discard { get; init; }

    internal WriterAbove Writer { get; init; }

    // Formats above heed their own discard option, so what stands below them need not refuse.
    private bool IsDescribedInside { get; init; }

    /// <summary>What holds for a node of these options, and what those that are described in it take over.</summary>
    internal InheritedOptions With(NodeOptions options) => this with
    {
        ReadOnly = options.ReadOnly ?? ReadOnly,
        AutoReadOnly = options.AutoReadOnly || AutoReadOnly,
        ForceShare = options.ForceShare || ForceShare,
        Direct = options.Direct ?? Direct,
        NoFlush = options.NoFlush ?? NoFlush,
        Discard = options.Discard ?? IsDescribedInside,
        IsDescribedInside = true,
    };
}
