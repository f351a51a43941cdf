using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats;

/// <summary>What a new internal snapshot says of itself besides its name.</summary>
public sealed record SnapshotMoment
{
    /// <summary>When it was taken.</summary>
    public required DateTimeOffset Date { get; init; }

    /// <summary>Guest time in nanoseconds; 0 without a running machine.</summary>
    public ulong VmClockNanoseconds { get; init; }

    /// <summary>Instruction count of a replay, or null.</summary>
    public long? InstructionCount { get; init; }
}

/// <summary>
/// Snapshots that an image keeps inside itself. Changes need exclusive use of the image (a drained section) and happen at one instant: after a
/// crash or a failure the image is the old or the new one. They are durable when the call returns, and everything written before is, too.
/// <para>Errors: BlockIOException. ENOENT: no such snapshot. EOPNOTSUPP: the image cannot have snapshots, or not this one. EBUSY: it has
/// persistent bitmaps, and a snapshot is to be applied. EINVAL: a name too long, or refcounts of too few bits. EFBIG: too many. EIO: the image is damaged. If writing the header failed, the image takes no more writes until it is opened
/// again.</para>
/// </summary>
public interface IInternalSnapshots
{
    /// <summary>The snapshots there are, oldest first. Not during a change.</summary>
    public ValueTask<IReadOnlyList<SnapshotEntry>> ListAsync();

    /// <summary>Keeps the disk as it is now under that name, which need not be unique.</summary>
    /// <returns>The new snapshot's id.</returns>
    public ValueTask<string> CreateAsync(string name, SnapshotMoment moment);

    /// <summary>Makes the disk what it was when the snapshot was taken, its size included; what was written since is lost.</summary>
    /// <param name="idOrName">An id, else the first snapshot of that name.</param>
    public ValueTask ApplyAsync(string idOrName);

    /// <summary>Forgets a snapshot. The disk stays as it is.</summary>
    /// <param name="idOrName">An id, else the first snapshot of that name.</param>
    public ValueTask DeleteAsync(string idOrName);
}
