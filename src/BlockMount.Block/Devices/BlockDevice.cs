using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Block.Devices;

/// <summary>
/// What users name: a disk that exports serve. It stands for the active layer, checks bounds, counts, and can be drained.
/// Any thread, concurrently. Owns its root node.
/// <para>Errors: <see cref="BlockIOException"/>. A range outside the disk is ENOSPC for writes and EINVAL otherwise; a write
/// to a read-only device is EROFS.</para>
/// </summary>
public sealed class BlockDevice : IAsyncDisposable
{
    private readonly RequestGate _gate = new();

    // One drained section at a time.
    private readonly AsyncMutex _exclusive = new();

    // Replaced only inside a drained section.
    private Node _root;

    // Not null while writes are frozen; completes when they thaw. Looked at inside the gate.
    private volatile TaskCompletionSource? _frozen;

    // Set once a flush failed; then every later flush fails (RELIABILITY D23).
    private volatile BlockIOException? _flushFailure;

    /// <summary>Serves <paramref name="root"/>, which it takes over.</summary>
    /// <param name="readOnly">Refuse writes even though the node would take them.</param>
    public BlockDevice(string name, Node root, bool readOnly)
    {
        Name = name;
        _root = root;
        ReadOnly = readOnly || root.ReadOnly;
    }

    /// <summary>The name that commands use, as "drive0".</summary>
    public string Name { get; }

    /// <summary>The active layer. It may change in a drained section: do not keep it.</summary>
    public Node Root => _root;

    /// <summary>True if every write is refused.</summary>
    public bool ReadOnly { get; }

    /// <summary>Discards are passed on (discard=unmap); false ignores them. Zeroes may unmap only when set.</summary>
    public bool DiscardEnabled { get; init; } = true;

    /// <summary>Size in bytes.</summary>
    public long Size => _root.Size;

    /// <summary>Counters since the device was opened.</summary>
    public DeviceStatistics Statistics { get; } = new();

    /// <summary>Raised after <see cref="ResizeAsync"/> changed <see cref="Size"/>, with the new size in bytes, on the resizing thread.</summary>
    public event Action<long>? Resized;

    /// <summary>Fills the buffer. An empty buffer is a request that succeeds at once.</summary>
    public async ValueTask ReadAsync(long offset, Memory<byte> buffer)
    {
        if (!_gate.TryEnter())
        {
            await _gate.EnterAsync();
        }

        try
        {
            CheckRange(offset, buffer.Length, Errno.EINVAL, "read");
            if (!buffer.IsEmpty)
            {
                await _root.ReadAsync(offset, buffer);
            }

            Statistics.Reads.Succeeded(buffer.Length);
        }
        catch
        {
            Statistics.Reads.Failed();
            throw;
        }
        finally
        {
            _gate.Exit();
        }
    }

    /// <summary>Writes the buffer; with <paramref name="fua"/> it is on stable storage when the task completes.</summary>
    public async ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> buffer, bool fua = false)
    {
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

            Statistics.Writes.Succeeded(buffer.Length);
        }
        catch
        {
            Statistics.Writes.Failed();
            throw;
        }
        finally
        {
            _gate.Exit();
        }
    }

    /// <summary>Writes whole clusters compressed; see <see cref="Node.WriteCompressedAsync"/>. Counts as a write.</summary>
    public async ValueTask WriteCompressedAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        await EnterToWriteAsync();
        try
        {
            CheckWritable("compressed write");
            CheckRange(offset, buffer.Length, Errno.ENOSPC, "compressed write");
            if (!buffer.IsEmpty)
            {
                await _root.WriteCompressedAsync(offset, buffer);
            }

            Statistics.Writes.Succeeded(buffer.Length);
        }
        catch
        {
            Statistics.Writes.Failed();
            throw;
        }
        finally
        {
            _gate.Exit();
        }
    }

    /// <summary>Makes the range read as zeros. <see cref="ZeroFlags.MayUnmap"/> counts only when discards are enabled.</summary>
    public async ValueTask ZeroAsync(long offset, long length, ZeroFlags flags, bool fua = false)
    {
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

            Statistics.Zeroes.Succeeded(length);
        }
        catch
        {
            Statistics.Zeroes.Failed();
            throw;
        }
        finally
        {
            _gate.Exit();
        }
    }

    /// <summary>Advice that the range is not needed any more. Afterwards it reads as before or as zeros, cluster by cluster.</summary>
    public async ValueTask DiscardAsync(long offset, long length, bool fua = false)
    {
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

            Statistics.Discards.Succeeded(length);
        }
        catch
        {
            Statistics.Discards.Failed();
            throw;
        }
        finally
        {
            _gate.Exit();
        }
    }

    /// <summary>Everything completed before the call is on stable storage afterwards. A read-only device has nothing to do.</summary>
    public async ValueTask FlushAsync()
    {
        if (!_gate.TryEnter())
        {
            await _gate.EnterAsync();
        }

        try
        {
            await FlushInsideAsync();
            Statistics.Flushes.Succeeded(0);
        }
        catch
        {
            Statistics.Flushes.Failed();
            throw;
        }
        finally
        {
            _gate.Exit();
        }
    }

    /// <summary>Status of the first bytes of the range over the whole chain; <paramref name="length"/> is at least 1.</summary>
    public async ValueTask<BlockStatus> StatusAsync(long offset, long length)
    {
        await _gate.EnterAsync();
        try
        {
            CheckRange(offset, length, Errno.EINVAL, "block status");
            return await _root.StatusAsync(offset, length, MapPurpose.Status);
        }
        finally
        {
            _gate.Exit();
        }
    }

    /// <summary>
    /// Holds writes, zeroes and discards back from now on until <see cref="Thaw"/>; those in flight end, and everything is flushed. Reads and flushes go on.
    /// Does nothing to a frozen device, and leaves it as it was when the flush fails. Closing a frozen device leaves what waits waiting, as closing does.
    /// </summary>
    public async ValueTask FreezeAsync()
    {
        if (_frozen is not null)
        {
            return;
        }

        using (AsyncMutex.Releaser held = await _exclusive.LockAsync())
        {
            _frozen = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            await _gate.CloseAsync();
            _gate.Open();
        }

        try
        {
            await FlushAsync();
        }
        catch
        {
            Thaw();
            throw;
        }
    }

    /// <summary>Lets writes in again.</summary>
    public void Thaw()
    {
        TaskCompletionSource? frozen = _frozen;
        _frozen = null;
        frozen?.SetResult();
    }

    /// <summary>Changes the size in bytes: waits until no request is in flight, holds new ones back meanwhile.</summary>
    public async ValueTask ResizeAsync(long size, Preallocation preallocation = Preallocation.Off)
    {
        CheckWritable("resize");
        using (AsyncMutex.Releaser held = await _exclusive.LockAsync())
        {
            await _gate.CloseAsync();
            try
            {
                await _root.ResizeAsync(size, preallocation);
            }
            finally
            {
                _gate.Open();
            }
        }

        Resized?.Invoke(size);
    }

    /// <summary>The internal snapshots of the active layer; none if it cannot have any.</summary>
    public async ValueTask<IReadOnlyList<SnapshotEntry>> ListSnapshotsAsync()
    {
        await _gate.EnterAsync();
        try
        {
            return _root.Snapshots is { } snapshots ? await snapshots.ListAsync() : [];
        }
        finally
        {
            _gate.Exit();
        }
    }

    /// <summary>
    /// Keeps the disk as it is under that name: requests in flight end before, later ones come after. Durable when it returns, as everything before is.
    /// </summary>
    /// <returns>The new snapshot's id.</returns>
    /// <exception cref="BlockIOException">See <see cref="IInternalSnapshots"/>.</exception>
    public async ValueTask<string> CreateSnapshotAsync(string name, SnapshotMoment moment)
    {
        string id = "";
        await ChangeSnapshotsAsync(async snapshots => id = await snapshots.CreateAsync(name, moment));
        return id;
    }

    /// <summary>
    /// Makes the disk what it was when the snapshot was taken, <see cref="Size"/> included: requests in flight end before, later ones see the old state.
    /// </summary>
    /// <param name="idOrName">An id, else the first snapshot of that name.</param>
    /// <exception cref="BlockIOException">See <see cref="IInternalSnapshots"/>.</exception>
    public async ValueTask ApplySnapshotAsync(string idOrName)
    {
        long before = Size;
        await ChangeSnapshotsAsync(snapshots => snapshots.ApplyAsync(idOrName));
        if (Size != before)
        {
            Resized?.Invoke(Size);
        }
    }

    /// <summary>Forgets a snapshot; what the disk holds does not change.</summary>
    /// <param name="idOrName">An id, else the first snapshot of that name.</param>
    /// <exception cref="BlockIOException">See <see cref="IInternalSnapshots"/>.</exception>
    public ValueTask DeleteSnapshotAsync(string idOrName) => ChangeSnapshotsAsync(snapshots => snapshots.DeleteAsync(idOrName));

    /// <summary>
    /// Waits until no request is in flight, runs <paramref name="change"/>, which may replace the root, and lets requests in again.
    /// </summary>
    /// <param name="change">Gets the current root and returns the one to serve from now on. Must not use this device.</param>
    public async ValueTask RunDrainedAsync(Func<Node, ValueTask<Node>> change)
    {
        using AsyncMutex.Releaser held = await _exclusive.LockAsync();
        await _gate.CloseAsync();
        Node before = _root;
        try
        {
            _root = await change(before);
        }
        finally
        {
            // Also after a failure: nobody can say how far the change got.
            DropIndex(before);
            _gate.Open();
        }
    }

    /// <summary>Waits for requests in flight, flushes and closes the whole chain. Later requests wait for ever: stop the exports first.</summary>
    public async ValueTask DisposeAsync()
    {
        using AsyncMutex.Releaser held = await _exclusive.LockAsync();
        await _gate.CloseAsync();
        await _root.DisposeAsync();
    }

    private async ValueTask ChangeSnapshotsAsync(Func<IInternalSnapshots, ValueTask> change)
    {
        CheckWritable("snapshot");
        await RunDrainedAsync(async root =>
        {
            await change(root.Snapshots ?? throw new BlockIOException(
                Errno.EOPNOTSUPP, $"snapshot of '{Name}', whose format {root.DriverName} keeps none", "Use an overlay: 'blockmount create -f qcow2 -b IMAGE -F FORMAT NEW'"));
            return root;
        });
    }

    // The one place where an index is dropped. The graph may be another one now; memory that the new root was not given goes over from the old one.
    private void DropIndex(Node rootBefore)
    {
        long bytes = _root.IndexBytes > 0 ? _root.IndexBytes : rootBefore.IndexBytes;
        if (rootBefore != _root)
        {
            rootBefore.IndexBelow(0);
        }

        _root.IndexBelow(bytes);
    }

    // The one way in for what changes the disk. Completes at once where nothing is in its way.
    private ValueTask EnterToWriteAsync()
    {
        if (!_gate.TryEnter())
        {
            return EnterLaterAsync();
        }

        return _frozen is null ? default : WaitForThawAsync();
    }

    private async ValueTask EnterLaterAsync()
    {
        await _gate.EnterAsync();
        await WaitForThawAsync();
    }

    // Inside the gate before and after, outside meanwhile.
    private async ValueTask WaitForThawAsync()
    {
        while (_frozen is { } frozen)
        {
            _gate.Exit();
            await frozen.Task;
            await _gate.EnterAsync();
        }
    }

    private async ValueTask FlushInsideAsync()
    {
        if (ReadOnly)
        {
            return;
        }

        if (_flushFailure is { } earlier)
        {
            throw new BlockIOException(earlier.Errno, $"flush of '{Name}' after an earlier flush failed", earlier.Hint, earlier);
        }

        try
        {
            await _root.FlushAsync();
        }
        catch (BlockIOException error)
        {
            _flushFailure = error;
            throw;
        }
    }

    private void CheckWritable(string operation)
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
