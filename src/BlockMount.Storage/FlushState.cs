using BlockMount.Base;
using BlockMount.Base.Async;

namespace BlockMount.Storage;

/// <summary>
/// The flushes of one file: one fdatasync at a time, shared by all who asked before it began, and none that succeeds after
/// one has failed (RELIABILITY D23). The kernel reports a write-back error once and may have marked the lost pages clean;
/// a second flush, also one that runs at the same time, could report success for data that is gone.
/// </summary>
internal sealed class FlushState
{
    private readonly PosixHandle _handle;
    private readonly AsyncMutex _mutex = new();

    // Number of flushes asked for; interlocked.
    private long _requested;

    // Guarded by _mutex: flushes with numbers up to this one are covered by an fdatasync that began after they were asked for.
    private long _covered;

    // The first failure's errno, None before. Written under _mutex, never cleared.
    private Errno _failure;

    public FlushState(PosixHandle handle) => _handle = handle;

    /// <summary>Everything written before the call is stable when the task completes.</summary>
    public async ValueTask FlushAsync()
    {
        long number = Interlocked.Increment(ref _requested);
        using AsyncMutex.Releaser held = await _mutex.LockAsync();
        ThrowIfPoisoned();
        if (_covered >= number)
        {
            return;
        }

        long covers = Volatile.Read(ref _requested);
        try
        {
            await IoThreads.Shared.RunAsync(_handle.Flush);
        }
        catch (BlockIOException error)
        {
            _failure = error.Errno;
            throw;
        }

        _covered = covers;
    }

    private void ThrowIfPoisoned()
    {
        if (_failure != Errno.None)
        {
            throw new BlockIOException(
                _failure,
                $"flush of '{_handle.Name}', of which an earlier flush has failed",
                "Data written before may be lost. Check the disk, then close the image and open it again.");
        }
    }
}
