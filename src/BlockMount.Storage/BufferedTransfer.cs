using BlockMount.Base;
using BlockMount.Base.Interop;

namespace BlockMount.Storage;

/// <summary>Reads and writes through the host's page cache.</summary>
internal sealed class BufferedTransfer : ITransferTarget
{
    private readonly PosixHandle _handle;
    private readonly FileSize _size;

    // tmpfs refuses RWF_NOWAIT, but nothing there waits for a disk (swap apart, where every memory access may wait).
    private readonly bool _isInMemory;

    // Changes once, from true to false: the file system (some network ones) knows no RWF_NOWAIT.
    private volatile bool _cachedReads = true;

    public BufferedTransfer(PosixHandle handle, FileSize size)
    {
        _handle = handle;
        _size = size;
        _isInMemory = FileStatus.IsInMemory(handle.BufferedFd);
    }

    /// <inheritdoc/>
    public int Descriptor => _handle.BufferedFd;

    /// <inheritdoc/>
    public int ReadUnit => 1;

    /// <summary>Reads what needs no waiting and tells how many bytes at the start of <paramref name="buffer"/> that was.</summary>
    public int ReadCached(long offset, Span<byte> buffer)
    {
        if (_isInMemory)
        {
            _handle.Read(offset, buffer);
            return buffer.Length;
        }

        if (!_cachedReads)
        {
            return 0;
        }

        int done = _handle.ReadCached(offset, buffer, out bool supported);
        if (!supported)
        {
            _cachedReads = false;
        }

        return done;
    }

    /// <inheritdoc/>
    public void BlockingRead(long offset, Span<byte> buffer) => _handle.Read(offset, buffer);

    /// <summary>
    /// Copies the data into the page cache. Called on the caller's thread, on purpose: the copy is all there is in the usual
    /// case, and when the kernel does hold us up it is because too much is dirty, where a queue of ours would only hide the
    /// back-pressure from the client. (Buffered RWF_NOWAIT writes are refused by ext4 and tmpfs, so there is no "try first".)
    /// </summary>
    public void BlockingWrite(long offset, ReadOnlySpan<byte> buffer)
    {
        long end = checked(offset + buffer.Length);
        if (end <= _size.Length)
        {
            _handle.Write(offset, buffer);
            _size.ConfirmWritten(end);
            return;
        }

        WriteGrowing(offset, buffer, end);
    }

    /// <inheritdoc/>
    public bool IsPlainRead(long offset, ReadOnlySpan<byte> buffer) => true;

    /// <summary>Never: see <see cref="BlockingWrite"/>.</summary>
    public bool IsPlainWrite(long offset, ReadOnlySpan<byte> buffer) => false;

    /// <inheritdoc/>
    public void EndPlainWrite(long end) => _size.ConfirmWritten(end);

    /// <inheritdoc/>
    public BlockIOException PlainFailure(Errno errno, bool isWrite, long offset, int length) =>
        _handle.Failure(errno, isWrite ? "write" : "read", offset, length);

    private void WriteGrowing(long offset, ReadOnlySpan<byte> buffer, long end)
    {
        lock (_size.Growth)
        {
            try
            {
                _handle.Write(offset, buffer);
                _size.ExtendLocked(end);
            }
            catch
            {
                // A part may have been written, and may have grown the file.
                _size.RefreshLocked();
                throw;
            }
        }
    }
}
