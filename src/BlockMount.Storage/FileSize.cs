namespace BlockMount.Storage;

/// <summary>
/// The cached length of one file, so that the hot path asks the kernel for nothing. What changes the length (a write past
/// the end, a zeroing past the end, a resize) does so under one lock, together with the system call: the cached number and
/// the file then change in the same order. The kernel holds the inode's lock exclusively in those calls, so ours costs no
/// parallelism.
/// </summary>
internal sealed class FileSize
{
    private readonly PosixHandle _handle;
    private readonly Lock _growth = new();

    // Written under _growth, read without it.
    private long _length;

    public FileSize(PosixHandle handle)
    {
        _handle = handle;
        _length = handle.QueryLength();
    }

    /// <summary>The length in bytes.</summary>
    public long Length => Volatile.Read(ref _length);

    /// <summary>Held around every call that may move the end of the file. Blocking; a leaf in the lock order.</summary>
    public Lock Growth => _growth;

    /// <summary>The file now reaches at least to <paramref name="end"/>. Under <see cref="Growth"/>.</summary>
    public void ExtendLocked(long end) => Volatile.Write(ref _length, Math.Max(_length, end));

    /// <summary>Asks the kernel again, after a failure in the middle of growing. Under <see cref="Growth"/>.</summary>
    public void RefreshLocked() => Volatile.Write(ref _length, _handle.QueryLength());

    /// <summary>
    /// After a write that ended inside the file when it began: if the file has been cut meanwhile, the write may have
    /// extended it again, or may have come first. Only the kernel knows.
    /// </summary>
    public void ConfirmWritten(long end)
    {
        if (end > Length)
        {
            lock (_growth)
            {
                RefreshLocked();
            }
        }
    }

    /// <summary>Sets the length of file and cache.</summary>
    public void Set(long length)
    {
        lock (_growth)
        {
            // A shrinking length is published before the call: a write that ends after the call then sees it and asks
            // (ConfirmWritten). A growing one after: nobody may rely on bytes that are not there yet.
            if (length < _length)
            {
                Volatile.Write(ref _length, length);
            }

            try
            {
                _handle.Truncate(length);
                Volatile.Write(ref _length, length);
            }
            catch
            {
                RefreshLocked();
                throw;
            }
        }
    }
}
