using System.Runtime.CompilerServices;
using BlockMount.Base;
using BlockMount.Base.Async;

namespace BlockMount.Storage;

/// <summary>
/// A regular file or block device of the host. Decides for each request whether it is done at once on the caller's thread
/// or handed to an <see cref="ITransferEngine"/> or <see cref="IoThreads"/>; the work itself is in <see cref="BufferedTransfer"/>, <see cref="DirectTransfer"/>
/// and <see cref="SpaceOperations"/>. See README.md beside this file.
/// </summary>
public sealed class PosixFile : StorageFile
{
    // Fixed after construction.
    private readonly PosixHandle _handle;
    private readonly FileSize _size;
    private readonly SpaceOperations _space;
    private readonly FlushState _flushes;
    private readonly BufferedTransfer _buffered;
    private readonly DirectTransfer? _direct;
    private readonly ITransferEngine _engine;
    private readonly bool _noFlush;

    // Counts what is on its way through the engine or the I/O threads; closed for good by DisposeAsync.
    private readonly RequestGate _hops = new();

    // With O_DIRECT only: everything that changes content or length holds the blocks it may write back. An aligned write
    // needs it as much as a ragged one, or the other's old neighbours would undo it; so do zeroing, punching and resizing.
    private readonly RangeLock? _directWrites;

    private int _disposed;

    internal PosixFile(PosixHandle handle, StorageOpenOptions options, DirectAlignment? directAlignment, ITransferEngine engine)
    {
        _handle = handle;
        _engine = engine;
        Options = options;
        ReadOnly = options.ReadOnly;
        _noFlush = options.NoFlush;
        _size = new FileSize(handle);
        _space = new SpaceOperations(handle, _size);
        _flushes = new FlushState(handle);
        _buffered = new BufferedTransfer(handle, _size);
        if (directAlignment is { } alignment)
        {
            _direct = new DirectTransfer(handle, _size, alignment);
            _directWrites = new RangeLock(recycles: true);
        }
    }

    /// <inheritdoc/>
    public override string Name => _handle.Name;

    /// <inheritdoc/>
    public override bool ReadOnly { get; }

    /// <summary>How it was opened.</summary>
    internal StorageOpenOptions Options { get; }

    /// <summary>The descriptor that carries the locks.</summary>
    internal int Descriptor => _handle.Fd;

    /// <inheritdoc/>
    public override long Length => _size.Length;

    /// <inheritdoc/>
    public override long AllocatedBytes => _handle.IsBlockDevice ? _size.Length : _handle.QueryAllocatedBytes();

    /// <inheritdoc/>
    public override bool IsBlockDevice => _handle.IsBlockDevice;

    /// <inheritdoc/>
    public override int PassthroughDescriptor => ReadOnly && _direct is null && !_handle.IsBlockDevice ? _handle.BufferedFd : -1;

    /// <inheritdoc/>
    public override ValueTask FlushAsync()
    {
        // A file that was never writable through us has nothing of ours to flush.
        return _noFlush || ReadOnly ? ValueTask.CompletedTask : FlushHostAsync();
    }

    /// <inheritdoc/>
    public override async ValueTask ResizeAsync(long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        if (_handle.IsBlockDevice)
        {
            if (length != Length)
            {
                throw new BlockIOException(Errno.EINVAL, $"resize of the block device '{Name}' to {length} bytes", "Resize the device itself.");
            }

            return;
        }

        // Everything up to the end of the address space: a ragged write must not restore a block that is being cut off.
        RangeLock.Entry? held = _directWrites is null ? null : await _directWrites.LockAsync(0, long.MaxValue);
        try
        {
            await HopAsync(() => _size.Set(length));
        }
        finally
        {
            ReleaseRange(held);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask<FileExtent> MapAsync(long offset, long length)
    {
        FileExtent extent = default;
        await HopAsync(() => extent = _space.Map(offset, length));
        return extent;
    }

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            await _hops.CloseAsync();
            _handle.Dispose();
        }
    }

    /// <inheritdoc/>
    protected override ValueTask ReadCoreAsync(long offset, Memory<byte> buffer)
    {
        if (_direct is not null)
        {
            return EnterHop() is { } refused ? ValueTask.FromException(refused) : _engine.StartRead(_direct, _hops, offset, buffer);
        }

        int done = _buffered.ReadCached(offset, buffer.Span);
        if (done == buffer.Length)
        {
            return ValueTask.CompletedTask;
        }

        return EnterHop() is { } error
            ? ValueTask.FromException(error)
            : _engine.StartRead(_buffered, _hops, offset + done, buffer[done..]);
    }

    /// <inheritdoc/>
    protected override ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        if (_direct is not null)
        {
            return WriteDirectAsync(_direct, offset, buffer);
        }

        try
        {
            _buffered.BlockingWrite(offset, buffer.Span);
            return ValueTask.CompletedTask;
        }
        catch (BlockIOException error)
        {
            return ValueTask.FromException(error);
        }
    }

    /// <inheritdoc/>
    protected override async ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap)
    {
        RangeLock.Entry? held = await LockRangeAsync(offset, length);
        try
        {
            await HopAsync(() => _space.Zero(offset, length, mayUnmap));
        }
        finally
        {
            ReleaseRange(held);
        }
    }

    /// <inheritdoc/>
    protected override async ValueTask<bool> PunchHoleCoreAsync(long offset, long length)
    {
        RangeLock.Entry? held = await LockRangeAsync(offset, length);
        try
        {
            bool punched = false;
            await HopAsync(() => punched = _space.Punch(offset, length));
            return punched;
        }
        finally
        {
            ReleaseRange(held);
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask WriteDirectAsync(DirectTransfer direct, long offset, ReadOnlyMemory<byte> buffer)
    {
        RangeLock.Entry? held = await LockRangeAsync(offset, buffer.Length);
        try
        {
            if (EnterHop() is { } refused)
            {
                throw refused;
            }

            await _engine.StartWrite(direct, _hops, offset, buffer);
        }
        finally
        {
            ReleaseRange(held);
        }
    }

    private async ValueTask<RangeLock.Entry?> LockRangeAsync(long offset, long length)
    {
        if (_directWrites is null)
        {
            return null;
        }

        (long start, long covered) = DirectTransfer.LockRange(offset, length);
        return await _directWrites.LockAsync(start, covered);
    }

    private void ReleaseRange(RangeLock.Entry? held)
    {
        if (held is not null)
        {
            _directWrites!.Release(held);
        }
    }

    private async ValueTask FlushHostAsync()
    {
        if (EnterHop() is { } refused)
        {
            throw refused;
        }

        try
        {
            await _flushes.FlushAsync();
        }
        finally
        {
            _hops.Exit();
        }
    }

    private async ValueTask HopAsync(Action call)
    {
        if (EnterHop() is { } refused)
        {
            throw refused;
        }

        try
        {
            await IoThreads.Shared.RunAsync(call);
        }
        finally
        {
            _hops.Exit();
        }
    }

    // Null on success; the caller then owes the gate an Exit.
    private BlockIOException? EnterHop() => _hops.TryEnter() ? null : new BlockIOException(Errno.EBADF, $"use of '{Name}' after it was closed");
}
