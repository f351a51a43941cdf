using System.Collections.Concurrent;
using BlockMount.Base;
using BlockMount.Storage;

namespace BlockMount.Tests.Formats.Qcow2;

/// <summary>A file in memory that may be longer than memory: only pages that were written take some. For one user at a time; never waits.</summary>
internal sealed class SparseMemoryFile : StorageFile
{
    private const int PageSize = 64 << 10;

    private readonly ConcurrentDictionary<long, byte[]> _pages;
    private long _length;

    internal SparseMemoryFile(ReadOnlySpan<byte> content)
        : this([], 0)
    {
        Put(0, content);
    }

    private SparseMemoryFile(ConcurrentDictionary<long, byte[]> pages, long length)
    {
        _pages = pages;
        _length = length;
    }

    public override string Name => "sparse";

    public override bool ReadOnly => false;

    public override long Length => _length;

    public override long AllocatedBytes => (long)_pages.Count * PageSize;

    /// <summary>A new handle on what this one, which is closed, has left.</summary>
    internal SparseMemoryFile Reopen() => new(_pages, _length);

    /// <summary>Writes at once.</summary>
    internal void Put(long offset, ReadOnlySpan<byte> bytes)
    {
        _length = Math.Max(_length, offset + bytes.Length);
        while (!bytes.IsEmpty)
        {
            int inPage = (int)(offset % PageSize);
            int step = Math.Min(bytes.Length, PageSize - inPage);
            bytes[..step].CopyTo(_pages.GetOrAdd(offset / PageSize, _ => new byte[PageSize]).AsSpan(inPage));
            offset += step;
            bytes = bytes[step..];
        }
    }

    public override ValueTask FlushAsync() => ValueTask.CompletedTask;

    public override ValueTask ResizeAsync(long length)
    {
        _length = length >= _length ? length : throw new BlockIOException(Errno.EOPNOTSUPP, "making a sparse file shorter");
        return ValueTask.CompletedTask;
    }

    public override ValueTask<FileExtent> MapAsync(long offset, long length) => new(new FileExtent(length, IsHole: false));

    public override ValueTask DisposeAsync() => ValueTask.CompletedTask;

    protected override ValueTask ReadCoreAsync(long offset, Memory<byte> buffer)
    {
        Span<byte> bytes = buffer.Span;
        while (!bytes.IsEmpty)
        {
            int inPage = (int)(offset % PageSize);
            int step = Math.Min(bytes.Length, PageSize - inPage);
            if (_pages.TryGetValue(offset / PageSize, out byte[]? page))
            {
                page.AsSpan(inPage, step).CopyTo(bytes);
            }
            else
            {
                bytes[..step].Clear();
            }

            offset += step;
            bytes = bytes[step..];
        }

        return ValueTask.CompletedTask;
    }

    protected override ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        Put(offset, buffer.Span);
        return ValueTask.CompletedTask;
    }

    protected override ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap)
    {
        Put(offset, new byte[checked((int)length)]);
        return ValueTask.CompletedTask;
    }

    protected override ValueTask<bool> PunchHoleCoreAsync(long offset, long length) => new(false);
}
