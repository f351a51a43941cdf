using BlockMount.Base;
using BlockMount.Storage;

namespace BlockMount.TestSupport;

/// <summary>A file in memory. Everything completes synchronously; flushes do nothing. Thread-safe.</summary>
public sealed class MemoryFile : StorageFile
{
    private readonly Lock _gate = new();
    private byte[] _content;
    private long _length;

    public MemoryFile(string name = "memory", bool readOnly = false, ReadOnlySpan<byte> content = default)
    {
        Name = name;
        ReadOnly = readOnly;
        _content = content.ToArray();
        _length = content.Length;
    }

    public override string Name { get; }

    public override bool ReadOnly { get; }

    public override long Length
    {
        get
        {
            lock (_gate)
            {
                return _length;
            }
        }
    }

    public override long AllocatedBytes => Length;

    /// <summary>A copy of the whole content.</summary>
    public byte[] ToArray()
    {
        lock (_gate)
        {
            return _content.AsSpan(0, (int)_length).ToArray();
        }
    }

    public override ValueTask FlushAsync() => ValueTask.CompletedTask;

    public override ValueTask ResizeAsync(long length)
    {
        lock (_gate)
        {
            if (length < _length)
            {
                _content.AsSpan((int)length, (int)(_length - length)).Clear();
            }

            Reserve(length);
            _length = length;
        }

        return ValueTask.CompletedTask;
    }

    public override ValueTask<FileExtent> MapAsync(long offset, long length) => new(new FileExtent(length, IsHole: offset >= Length));

    public override ValueTask DisposeAsync() => ValueTask.CompletedTask;

    protected override ValueTask ReadCoreAsync(long offset, Memory<byte> buffer)
    {
        lock (_gate)
        {
            int inside = (int)Math.Clamp(_length - offset, 0, buffer.Length);
            _content.AsSpan((int)Math.Min(offset, _length), inside).CopyTo(buffer.Span);
            buffer.Span[inside..].Clear();
        }

        return ValueTask.CompletedTask;
    }

    protected override ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        if (ReadOnly)
        {
            throw new BlockIOException(Errno.EBADF, $"write to '{Name}'");
        }

        lock (_gate)
        {
            Reserve(offset + buffer.Length);
            buffer.Span.CopyTo(_content.AsSpan((int)offset));
            _length = Math.Max(_length, offset + buffer.Length);
        }

        return ValueTask.CompletedTask;
    }

    protected override ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap)
    {
        lock (_gate)
        {
            Reserve(offset + length);
            _content.AsSpan((int)offset, (int)length).Clear();
            _length = Math.Max(_length, offset + length);
        }

        return ValueTask.CompletedTask;
    }

    protected override ValueTask<bool> PunchHoleCoreAsync(long offset, long length)
    {
        lock (_gate)
        {
            int inside = (int)Math.Clamp(_length - offset, 0, length);
            _content.AsSpan((int)Math.Min(offset, _length), inside).Clear();
        }

        return new ValueTask<bool>(true);
    }

    private void Reserve(long length)
    {
        if (length > _content.Length)
        {
            Array.Resize(ref _content, (int)Math.Max(length, _content.Length * 2L));
        }
    }
}
