using BlockMount.Base;
using BlockMount.Formats;

namespace BlockMount.Block.Nodes;

/// <summary>
/// In the place of a driver that could be opened neither in a new way nor in the old one again: every request fails with what was in the way. The image itself was closed cleanly. Immutable.
/// </summary>
internal sealed class FailedDriver : FormatDriver
{
    private readonly string _fileName;
    private readonly Exception _cause;
    private readonly int _clusterSize;

    internal FailedDriver(FormatDriver before, string fileName, Exception cause)
    {
        _fileName = fileName;
        _cause = cause;
        FormatName = before.FormatName;
        VirtualSize = before.VirtualSize;
        ReadOnly = before.ReadOnly;
        Backing = before.Backing;
        _clusterSize = before.ClusterSize;
    }

    /// <inheritdoc/>
    public override string FormatName { get; }

    /// <inheritdoc/>
    public override long VirtualSize { get; }

    /// <inheritdoc/>
    public override bool ReadOnly { get; }

    /// <inheritdoc/>
    public override int ClusterSize => _clusterSize;

    /// <inheritdoc/>
    public override long AllocatedBytes => 0;

    /// <inheritdoc/>
    public override BackingReference? Backing { get; }

    /// <inheritdoc/>
    public override MapLease EnterLease() => default;

    /// <inheritdoc/>
    public override ValueTask CommitWriteAsync(PendingAllocation allocation) => throw Failure("write");

    /// <inheritdoc/>
    public override ValueTask AbandonWriteAsync(PendingAllocation allocation) => ValueTask.CompletedTask;

    /// <inheritdoc/>
    public override ValueTask<bool> ZeroAsync(long offset, long length, ZeroFlags flags) => throw Failure("zero");

    /// <inheritdoc/>
    public override ValueTask DiscardAsync(long offset, long length) => throw Failure("discard");

    /// <inheritdoc/>
    public override ValueTask FlushAsync() => throw Failure("flush");

    /// <inheritdoc/>
    public override ValueTask ResizeAsync(long size, Func<ValueTask>? fillNewSpace = null, Preallocation preallocation = Preallocation.Off) => throw Failure("resize");

    /// <inheritdoc/>
    public override ValueTask DisposeAsync() => ValueTask.CompletedTask;

    /// <inheritdoc/>
    protected override ValueTask<Mapping> MapCoreAsync(long offset, long length, MapPurpose purpose) => throw Failure("read");

    /// <inheritdoc/>
    protected override ValueTask<WritePlan> PrepareWriteCoreAsync(long offset, long length) => throw Failure("write");

    private BlockIOException Failure(string operation) => new(
        Errno.EIO, $"{operation} on '{_fileName}', which could not be reopened", $"{_cause.Message}. The image was closed cleanly; end this daemon and start again", _cause);
}
