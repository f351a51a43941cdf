using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Formats;

namespace BlockMount.Block.Devices;

/// <summary>
/// What users name: a disk that exports serve. It stands for the active layer, checks bounds, counts, and can be drained.
/// Any thread, concurrently. Uses its root node,
/// which lives as long as somebody does.
/// <para>Errors: <see cref="BlockIOException"/>. A range outside the disk is ENOSPC for writes and EINVAL otherwise; a write
/// to a read-only device is EROFS.</para>
/// </summary>
public sealed class BlockDevice : IEdgeUser, IAsyncDisposable
{
    private readonly bool _asksReadOnly;

    // All three replaced only inside a drained section.
    private Node _root;
    private bool _readOnly;
    private long _indexBytes;

    private readonly FlushGuard _flushes = new();

    /// <summary>Serves <paramref name="root"/>, which it becomes a user of, without a graph of named nodes.</summary>
    /// <param name="readOnly">Refuse writes even though the node would take them.</param>
    public BlockDevice(string name, Node root, bool readOnly)
        : this(name, root, readOnly, new AsyncMutex(), EdgePermissions.ForDevice(!readOnly && !root.ReadOnly))
    {
    }

    /// <param name="changes">The mutex of the graph that the root belongs to.</param>
    internal BlockDevice(string name, Node root, bool readOnly, AsyncMutex changes, EdgePermissions permissions)
    {
        Name = name;
        _asksReadOnly = readOnly;
        Changes = changes;
        _root = root;
        _indexBytes = root.IndexBytes;
        RootEdge = NodeEdge.Attach(this, NodeEdge.RootRole, root, permissions);
        _readOnly = readOnly || root.ReadOnly;
    }

    /// <summary>The name that commands use, as "drive0".</summary>
    public string Name { get; }

    /// <summary>The active layer. It may change in a drained section: do not keep it.</summary>
    public Node Root => _root;

    /// <summary>True if every write is refused.</summary>
    public bool ReadOnly => _readOnly;

    /// <inheritdoc/>
    public string UserDescription { get; init; } = "an unnamed block device";

    /// <summary>The edge to the active layer.</summary>
    public NodeEdge RootEdge { get; }

    internal DeviceGate Gate { get; } = new();

    /// <summary>One change at a time, of all devices of a graph.</summary>
    internal AsyncMutex Changes { get; }

    /// <summary>Discards are passed on (discard=unmap); false ignores them. Zeroes may unmap only when set.</summary>
    public bool DiscardEnabled { get; init; } = true;

    /// <summary>Size in bytes.</summary>
    public long Size => _root.Size;

    /// <summary>Counters since the device was opened.</summary>
    public DeviceStatistics Statistics { get; } = new();

    /// <summary>Raised after a change of the graph, or of the image, has changed <see cref="Size"/>, with the new size in bytes, on the thread of the change. No lock is held.</summary>
    public event Action<long>? Resized;

    /// <summary>Fills the buffer. An empty buffer is a request that succeeds at once.</summary>
    public async ValueTask ReadAsync(long offset, Memory<byte> buffer)
    {
        long started = Statistics.Reads.Begin();
        if (!Gate.TryEnter())
        {
            await Gate.EnterAsync();
        }

        try
        {
            CheckRange(offset, buffer.Length, Errno.EINVAL, "read");
            if (!buffer.IsEmpty)
            {
                await _root.ReadAsync(offset, buffer);
            }

            Statistics.Reads.Succeeded(buffer.Length, started);
        }
        catch
        {
            Statistics.Reads.Failed();
            throw;
        }
        finally
        {
            Gate.Exit();
        }
    }

    /// <summary>Writes the buffer; with <paramref name="fua"/> it is on stable storage when the task completes.</summary>
    public async ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> buffer, bool fua = false)
    {
        long started = Statistics.Writes.Begin();
        await EnterToWriteAsync();
        try
        {
            CheckWritable("write");
            CheckRange(offset, buffer.Length, Errno.ENOSPC, "write");
            if (!buffer.IsEmpty)
            {
                await _root.WriteAsync(offset, buffer);
            }

            if (fua)
            {
                await FlushInsideAsync();
            }

            Statistics.Writes.Succeeded(buffer.Length, started);
        }
        catch
        {
            Statistics.Writes.Failed();
            throw;
        }
        finally
        {
            Gate.Exit();
        }
    }

    /// <summary>Writes whole clusters compressed; see <see cref="Node.WriteCompressedAsync"/>. Counts as a write.</summary>
    public async ValueTask WriteCompressedAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        long started = Statistics.Writes.Begin();
        await EnterToWriteAsync();
        try
        {
            CheckWritable("compressed write");
            CheckRange(offset, buffer.Length, Errno.ENOSPC, "compressed write");
            if (!buffer.IsEmpty)
            {
                await _root.WriteCompressedAsync(offset, buffer);
            }

            Statistics.Writes.Succeeded(buffer.Length, started);
        }
        catch
        {
            Statistics.Writes.Failed();
            throw;
        }
        finally
        {
            Gate.Exit();
        }
    }

    /// <summary>Makes the range read as zeros. <see cref="ZeroFlags.MayUnmap"/> counts only when discards are enabled.</summary>
    public async ValueTask ZeroAsync(long offset, long length, ZeroFlags flags, bool fua = false)
    {
        long started = Statistics.Zeroes.Begin();
        await EnterToWriteAsync();
        try
        {
            CheckWritable("zero");
            CheckRange(offset, length, Errno.ENOSPC, "zero");
            if (length > 0)
            {
                await _root.ZeroAsync(offset, length, DiscardEnabled ? flags : flags & ~ZeroFlags.MayUnmap);
            }

            if (fua)
            {
                await FlushInsideAsync();
            }

            Statistics.Zeroes.Succeeded(length, started);
        }
        catch
        {
            Statistics.Zeroes.Failed();
            throw;
        }
        finally
        {
            Gate.Exit();
        }
    }

    /// <summary>Advice that the range is not needed any more. Afterwards it reads as before or as zeros, cluster by cluster.</summary>
    public async ValueTask DiscardAsync(long offset, long length, bool fua = false)
    {
        long started = Statistics.Discards.Begin();
        await EnterToWriteAsync();
        try
        {
            CheckWritable("discard");
            CheckRange(offset, length, Errno.EINVAL, "discard");
            if (length > 0 && DiscardEnabled)
            {
                await _root.DiscardAsync(offset, length);
            }

            if (fua)
            {
                await FlushInsideAsync();
            }

            Statistics.Discards.Succeeded(length, started);
        }
        catch
        {
            Statistics.Discards.Failed();
            throw;
        }
        finally
        {
            Gate.Exit();
        }
    }

    /// <summary>Everything completed before the call is on stable storage afterwards. A read-only device has nothing to do.</summary>
    public async ValueTask FlushAsync()
    {
        long started = Statistics.Flushes.Begin();
        if (!Gate.TryEnter())
        {
            await Gate.EnterAsync();
        }

        try
        {
            await FlushInsideAsync();
            Statistics.Flushes.Succeeded(0, started);
        }
        catch
        {
            Statistics.Flushes.Failed();
            throw;
        }
        finally
        {
            Gate.Exit();
        }
    }

    /// <summary>Status of the first bytes of the range over the whole chain; <paramref name="length"/> is at least 1.</summary>
    public async ValueTask<BlockStatus> StatusAsync(long offset, long length)
    {
        await Gate.EnterAsync();
        try
        {
            CheckRange(offset, length, Errno.EINVAL, "block status");
            return await _root.StatusAsync(offset, length, MapPurpose.Status);
        }
        finally
        {
            Gate.Exit();
        }
    }

    /// <summary>Waits for requests in flight, flushes and closes what nobody else uses. Later requests wait for ever: stop the exports first.</summary>
    public async ValueTask DisposeAsync()
    {
        using AsyncMutex.Releaser held = await Changes.LockAsync();
        await CloseLockedAsync();
    }

    /// <summary>As <see cref="DisposeAsync"/>, by whoever holds the graph's mutex.</summary>
    internal async ValueTask CloseLockedAsync()
    {
        Gate.Thaw();
        DrainedDevices drained = await DrainedDevices.BeginAsync([this]);
        RootEdge.Detach();
        drained.KeepShut();
        if (!_root.Parents.Any(edge => edge.Parent is BlockDevice))
        {
            _root.IndexBelow(0);
        }

        await _root.CloseIfUnusedAsync();
    }

    /// <summary>Frozen writes go on.</summary>
    public void ThawWrites() => Gate.Thaw();

    /// <summary>True while writes wait.</summary>
    public bool IsFrozen => Gate.IsFrozen;

    /// <summary>Tells the exports how large the disk is now.</summary>
    internal void AnnounceSize() => Resized?.Invoke(Size);

    /// <summary>A device that had nothing below its root gets an index when it has.</summary>
    internal void EnsureIndexBytes(long bytes) => _indexBytes = Math.Max(_indexBytes, bytes);

    /// <summary>Another disk from now on: what happened to the one of before does not count.</summary>
    internal void ForgetFlushFailure() => _flushes.Forget();

    /// <summary>
    /// Called at the end of each drained section, also of one that failed, because nobody can say how far it got: the one place where an index is dropped. Memory that
    /// the new root was not given goes over from the old one.
    /// </summary>
    internal void GraphChanged()
    {
        _readOnly = _asksReadOnly || _root.ReadOnly;
        if (_root.IndexBytes > 0)
        {
            _indexBytes = _root.IndexBytes;
        }

        _root.IndexBelow(_indexBytes);
    }

    void IEdgeUser.ChildReplaced(NodeEdge edge)
    {
        Node before = _root;
        _root = edge.Child;
        // It may be another device's root; that one then has an index of its own made at the end of the section.
        before.IndexBelow(0);
    }

    // The one way in for what changes the disk. Completes at once where nothing is in its way.
    private ValueTask EnterToWriteAsync() => Gate.TryEnterToWrite() ? default : Gate.EnterToWriteAsync();

    private ValueTask FlushInsideAsync() => ReadOnly ? ValueTask.CompletedTask : _flushes.FlushAsync(_root, Name);

    /// <exception cref="BlockIOException">EROFS: writes are refused.</exception>
    internal void CheckWritable(string operation)
    {
        if (ReadOnly)
        {
            throw new BlockIOException(Errno.EROFS, $"{operation} on '{Name}'");
        }
    }

    private void CheckRange(long offset, long length, Errno errno, string operation)
    {
        if (offset < 0 || length < 0 || offset > Size - length)
        {
            throw new BlockIOException(errno, $"{operation} of {length} bytes at {offset} on '{Name}', which has {Size} bytes");
        }
    }
}
