using BlockMount.Storage;

namespace BlockMount.Formats;

/// <summary>
/// Where the first <see cref="Length"/> bytes of a guest write go. Without an allocation the write is in place and nothing
/// follows it. With one, the node fills the edges, writes the data, and then commits or abandons the allocation, exactly once.
/// </summary>
/// <param name="File">The host file to write to.</param>
/// <param name="FileOffset">Host offset of the first guest byte of the write.</param>
/// <param name="Length">Guest bytes covered, contiguous in the host file: at least 1, at most what was asked for.</param>
/// <param name="Allocation">Null for an in-place write.</param>
public readonly record struct WritePlan(StorageFile File, long FileOffset, long Length, PendingAllocation? Allocation)
{
    /// <summary>
    /// There is no plan yet: the only place for these bytes may still be written to by older requests. End the lease, await
    /// <see cref="FormatDriver.OlderRequestsEndedAsync"/>, take a new lease and ask again.
    /// </summary>
    public bool MustWait => Length == 0;
}

/// <summary>
/// A host place that no table calls data yet: new clusters, or parts of clusters that the guest has already. While it is pending, other
/// allocating writes, discards and zeroes of the same guest clusters wait. Owned by the node that prepared the write; not thread-safe.
/// </summary>
public abstract class PendingAllocation
{
    /// <summary>Guest offset of the first byte of the new place; a multiple of the driver's unit of copy-on-write.</summary>
    public long GuestOffset { get; protected init; }

    /// <summary>Bytes of the whole place, all of which must be written. May reach past the end of the image; that part reads as zeros.</summary>
    public long GuestLength { get; protected init; }

    /// <summary>Host offset of the first byte; the place is contiguous in the host file.</summary>
    public long FileOffset { get; protected init; }

    /// <summary>The place reads as zeros already (fresh space past the old end of the file), so zero edges need no write.</summary>
    public bool ReadsAsZero { get; protected init; }
}
