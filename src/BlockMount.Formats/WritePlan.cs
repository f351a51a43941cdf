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
public readonly record struct WritePlan(StorageFile File, long FileOffset, long Length, PendingAllocation? Allocation);

/// <summary>
/// New clusters that no table points to yet. While it is pending, other allocating writes, discards and zeroes of the
/// same guest clusters wait. Owned by the node that prepared the write; not thread-safe.
/// </summary>
public abstract class PendingAllocation
{
    /// <summary>Guest offset of the first byte of the first new cluster.</summary>
    public long GuestOffset { get; protected init; }

    /// <summary>Bytes of all new clusters together. May reach past the end of the image; that part reads as zeros.</summary>
    public long GuestLength { get; protected init; }

    /// <summary>Host offset of the first new cluster; the clusters are contiguous in the host file.</summary>
    public long FileOffset { get; protected init; }

    /// <summary>The host clusters read as zeros already (fresh space past the old end of the file), so zero edges need no write.</summary>
    public bool ReadsAsZero { get; protected init; }
}
