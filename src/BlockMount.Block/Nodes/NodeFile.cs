using BlockMount.Base.Async;
using BlockMount.Formats;
using BlockMount.Storage;

namespace BlockMount.Block.Nodes;

/// <summary>
/// A node in the place of a host file, for a format that stands on something else than one: qcow2 on blkdebug, raw on throttle. Closing it does nothing,
/// the node is closed by its own references. Any thread.
/// </summary>
internal sealed class NodeFile : StorageFile
{
    private readonly Node _node;

    // Held while the node grows, which two writes past its end must not do at once.
    private readonly AsyncMutex _growing = new();

    internal NodeFile(Node node) => _node = node;

    /// <inheritdoc/>
    public override string Name => _node.FileName;

    /// <inheritdoc/>
    public override bool ReadOnly => _node.ReadOnly;

    /// <inheritdoc/>
    public override long Length => _node.Size;

    /// <inheritdoc/>
    public override long AllocatedBytes => _node.AllocatedBytes;

    /// <inheritdoc/>
    public override ValueTask FlushAsync() => _node.FlushAsync();

    /// <inheritdoc/>
    public override ValueTask ResizeAsync(long length) => _node.ResizeAsync(length);

    /// <inheritdoc/>
    public override async ValueTask<FileExtent> MapAsync(long offset, long length)
    {
        long inside = Math.Min(length, _node.Size - offset);
        if (inside <= 0)
        {
            return new FileExtent(length, IsHole: true);
        }

        BlockStatus status = await _node.StatusAsync(offset, inside, MapPurpose.Status);
        return new FileExtent(status.Length, IsHole: status.IsZero && !status.IsAllocated);
    }

    /// <inheritdoc/>
    public override ValueTask DisposeAsync() => ValueTask.CompletedTask;

    /// <inheritdoc/>
    protected override async ValueTask ReadCoreAsync(long offset, Memory<byte> buffer)
    {
        int inside = (int)Math.Clamp(_node.Size - offset, 0, buffer.Length);
        buffer.Span[inside..].Clear();
        if (inside > 0)
        {
            await _node.ReadAsync(offset, buffer[..inside]);
        }
    }

    /// <inheritdoc/>
    protected override async ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        await EnsureSizeAsync(offset + buffer.Length);
        await _node.WriteAsync(offset, buffer);
    }

    /// <inheritdoc/>
    protected override async ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap)
    {
        await EnsureSizeAsync(offset + length);
        await _node.ZeroAsync(offset, length, mayUnmap ? ZeroFlags.MayUnmap : ZeroFlags.None);
    }

    /// <inheritdoc/>
    protected override async ValueTask<bool> PunchHoleCoreAsync(long offset, long length)
    {
        long inside = Math.Min(length, _node.Size - offset);
        if (inside <= 0)
        {
            return true;
        }

        await _node.DiscardAsync(offset, inside);
        // A node need not drop what it is told to drop, so nobody may count on zeros.
        return false;
    }

    private async ValueTask EnsureSizeAsync(long end)
    {
        if (end <= _node.Size)
        {
            return;
        }

        using AsyncMutex.Releaser held = await _growing.LockAsync();
        if (end > _node.Size)
        {
            await _node.ResizeAsync(end);
        }
    }
}
