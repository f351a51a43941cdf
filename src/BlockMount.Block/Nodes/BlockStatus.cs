namespace BlockMount.Block.Nodes;

/// <summary>Allocation status of a guest range, over the whole chain.</summary>
/// <param name="Length">Bytes covered, at least 1.</param>
/// <param name="IsZero">The range reads as zeros for certain.</param>
/// <param name="IsAllocated">Some layer of the chain holds or claims these bytes; false is NBD's hole.</param>
/// <param name="Depth">Layer that decides: 1 for the active layer, 2 for its backing file, ...; 0 when no layer holds the bytes.</param>
public readonly record struct BlockStatus(long Length, bool IsZero, bool IsAllocated, int Depth);
