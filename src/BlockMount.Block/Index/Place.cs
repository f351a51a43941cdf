namespace BlockMount.Block.Index;

/// <summary>
/// Where a guest range comes from, in one word:
/// <code>| source, 12 bits | offset in the source, 52 bits |</code>
/// The source is a number that <see cref="ChainLayers"/> gives to a host file or a node. An offset is in bytes; that of a node is the guest offset.
/// </summary>
internal readonly record struct Place(ulong Raw)
{
    private const int OffsetBits = 52;
    private const ulong OffsetMask = (1UL << OffsetBits) - 1;

    /// <summary>Sources are numbered from 1 up to, not including, this.</summary>
    internal const int SourceEnd = (1 << (64 - OffsetBits)) - 1;

    /// <summary>The first offset that has no room here: 4 PiB.</summary>
    internal const long OffsetEnd = 1L << OffsetBits;

    /// <summary>Zeros, whoever says so.</summary>
    internal static Place Zero => default;

    /// <summary>The index does not know: the layers must be asked.</summary>
    internal static Place Unknown => new(ulong.MaxValue);

    internal static Place Of(int source, long offset) => new(((ulong)source << OffsetBits) | (ulong)offset);

    internal bool IsZero => Raw == 0;

    internal bool IsUnknown => Raw == ulong.MaxValue;

    internal int Source => (int)(Raw >> OffsetBits);

    internal long Offset => (long)(Raw & OffsetMask);

    /// <summary>The place of what lies <paramref name="bytes"/> behind.</summary>
    internal Place After(long bytes) => IsZero || IsUnknown ? this : new Place(Raw + (ulong)bytes);
}

/// <summary>A part of a page and its place.</summary>
/// <param name="Start">Bytes from the start of the page.</param>
/// <param name="End">Bytes from the start of the page, exclusive; more than <paramref name="Start"/>.</param>
internal readonly record struct Piece(int Start, int End, Place Place);
