using System.Diagnostics;
using BlockMount.Base;

namespace BlockMount.Storage;

/// <summary>
/// A host file as the program sees it: positional, asynchronous, without alignment rules for the caller. This is the seam
/// for faults, recording and simulation: nothing above it performs file I/O in another way.
/// <para>Threading: every method may be called from any thread, concurrently. Overlapping concurrent writes end in either
/// order. What would block is done elsewhere: a method returns an incomplete task rather than holding up its caller;
/// page-cached data is served before the method returns.</para>
/// <para>Errors: <see cref="Base.BlockIOException"/> with the errno. After a failed flush every later flush fails too,
/// because the kernel may have dropped the pages (RELIABILITY D23).</para>
/// </summary>
public abstract class StorageFile : IAsyncDisposable
{
    // Where writes begin to be told of; null as long as nobody asks.
    private WriteWatch? _watch;

    private HighWaterMark _written;
    private long _discardsDone;
    private long _discardsFailed;
    private long _discardedBytes;

    /// <summary>For messages: the path as the user gave it, or a diagnostic name.</summary>
    public abstract string Name { get; }

    /// <summary>True if the file was opened without the right to change it.</summary>
    public abstract bool ReadOnly { get; }

    /// <summary>Current length in bytes. Grows by writes past the end; for block devices the device's size.</summary>
    public abstract long Length { get; }

    /// <summary>Bytes that the file occupies on its file system; equals <see cref="Length"/> where nobody can say.</summary>
    public abstract long AllocatedBytes { get; }

    /// <summary>True for a block device of the host, false for everything else.</summary>
    public virtual bool IsBlockDevice => false;

    /// <summary>
    /// A descriptor through which the kernel may read this file on its own, cached as this file is; the file still owns it. -1 where there is none: the
    /// file can be written through us, bypasses the page cache, or is no regular file.
    /// </summary>
    public virtual int PassthroughDescriptor => -1;

    /// <summary>The threshold that is watched, in bytes; 0 if none is, or a write has gone beyond it.</summary>
    public long WriteThreshold => Volatile.Read(ref _watch)?.Threshold ?? 0;

    /// <summary>Where the farthest write through this object has ended, in bytes; 0 before the first one.</summary>
    public long WriteHighestOffset => _written.Value;

    /// <summary>What <see cref="PunchHoleAsync"/> was asked for.</summary>
    public DiscardCounts Discards => new(Volatile.Read(ref _discardsDone), Volatile.Read(ref _discardsFailed), Volatile.Read(ref _discardedBytes));

    /// <summary>
    /// Tells <paramref name="exceeded"/> once, before it is done, of a write that ends beyond <paramref name="threshold"/>, and by how many bytes; 0 ends the watch. On the writing
    /// thread, which it must not hold up.
    /// </summary>
    public void SetWriteThreshold(long threshold, Action<long> exceeded) =>
        Volatile.Write(ref _watch, threshold > 0 ? new WriteWatch(threshold, exceeded) : null);

    /// <summary>Fills <paramref name="buffer"/> from <paramref name="offset"/>; what lies past the end of the file reads as zeros.</summary>
    public ValueTask ReadAsync(long offset, Memory<byte> buffer)
    {
        Debug.Assert(offset >= 0);
        Debug.Assert(!buffer.IsEmpty);
        return ReadCoreAsync(offset, buffer);
    }

    /// <summary>Writes the whole buffer at <paramref name="offset"/>, growing the file where needed.</summary>
    public ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        Debug.Assert(!ReadOnly);
        Debug.Assert(offset >= 0);
        Debug.Assert(!buffer.IsEmpty);
        NoteWrite(offset + buffer.Length);

        return WriteCoreAsync(offset, buffer);
    }

    /// <summary>
    /// Makes the range read as zeros, growing the file where needed. With <paramref name="mayUnmap"/> the range may become a hole,
    /// without it the space stays allocated where the file system can do so.
    /// </summary>
    public ValueTask WriteZeroesAsync(long offset, long length, bool mayUnmap)
    {
        Debug.Assert(!ReadOnly);
        Debug.Assert(offset >= 0);
        Debug.Assert(length > 0);
        NoteWrite(offset + length);

        return WriteZeroesCoreAsync(offset, length, mayUnmap);
    }

    /// <summary>
    /// Gives the range's space back to the file system; afterwards it reads as zeros. Never changes <see cref="Length"/>.
    /// A file system that cannot do it leaves the range as it is: the result tells, and that is no error.
    /// </summary>
    /// <returns>True if the range now reads as zeros and holds no space.</returns>
    public ValueTask<bool> PunchHoleAsync(long offset, long length)
    {
        Debug.Assert(!ReadOnly);
        Debug.Assert(offset >= 0);
        Debug.Assert(length > 0);
        return CountedPunchHoleAsync(offset, length);
    }

    /// <summary>Everything written before the call is on stable storage when the task completes.</summary>
    public abstract ValueTask FlushAsync();

    /// <summary>Sets <see cref="Length"/>; a longer file reads as zeros in its new part.</summary>
    public abstract ValueTask ResizeAsync(long length);

    /// <summary>
    /// Tells what the file system knows of [<paramref name="offset"/>, + <paramref name="length"/>): one extent that begins at
    /// <paramref name="offset"/> and is cut at the end of the range. Where it cannot say: data.
    /// </summary>
    public abstract ValueTask<FileExtent> MapAsync(long offset, long length);

    /// <summary>Waits for the file's own work, then closes it and gives its locks back. Does not flush.</summary>
    public abstract ValueTask DisposeAsync();

    private async ValueTask<bool> CountedPunchHoleAsync(long offset, long length)
    {
        bool done = false;
        try
        {
            return done = await PunchHoleCoreAsync(offset, length);
        }
        finally
        {
            _ = Interlocked.Increment(ref done ? ref _discardsDone : ref _discardsFailed);
            _ = Interlocked.Add(ref _discardedBytes, done ? length : 0);
        }
    }

    private void NoteWrite(long end)
    {
        _written.Note(end);
        if (_watch is not null)
        {
            TellOfWrite(end);
        }
    }

    private void TellOfWrite(long end)
    {
        if (Volatile.Read(ref _watch) is { } watch && end > watch.Threshold && Interlocked.CompareExchange(ref _watch, null, watch) == watch)
        {
            watch.Exceeded(end - watch.Threshold);
        }
    }

    private sealed record WriteWatch(long Threshold, Action<long> Exceeded);

    /// <inheritdoc cref="ReadAsync"/>
    protected abstract ValueTask ReadCoreAsync(long offset, Memory<byte> buffer);

    /// <inheritdoc cref="WriteAsync"/>
    protected abstract ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer);

    /// <inheritdoc cref="WriteZeroesAsync"/>
    protected abstract ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap);

    /// <inheritdoc cref="PunchHoleAsync"/>
    protected abstract ValueTask<bool> PunchHoleCoreAsync(long offset, long length);
}

/// <summary>A run of bytes of one kind: <see cref="Length"/> is at least 1; a hole reads as zeros and holds no space.</summary>
public readonly record struct FileExtent(long Length, bool IsHole);
