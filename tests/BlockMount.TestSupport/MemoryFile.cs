using BlockMount.Base;
using BlockMount.Storage;

namespace BlockMount.TestSupport;

/// <summary>
/// A file in memory. Everything completes synchronously; flushes do nothing. Thread-safe. The content outlives the handle:
/// <see cref="Reopen"/> gives the next one. Use after disposal and double disposal are reported, because they are bugs of whoever owns the file.
/// </summary>
public sealed class MemoryFile : StorageFile
{
    private readonly Disk _disk;
    private bool _disposed;

    public MemoryFile(string name = "memory", bool readOnly = false, ReadOnlySpan<byte> content = default)
        : this(name, readOnly, new Disk { Bytes = content.ToArray(), Length = content.Length })
    {
    }

    private MemoryFile(string name, bool readOnly, Disk disk)
    {
        Name = name;
        ReadOnly = readOnly;
        _disk = disk;
    }

    public override string Name { get; }

    public override bool ReadOnly { get; }

    /// <summary>True once the owner has closed this handle.</summary>
    public bool IsDisposed => Volatile.Read(ref _disposed);

    public override long Length
    {
        get
        {
            lock (_disk.Gate)
            {
                return _disk.Length;
            }
        }
    }

    public override long AllocatedBytes => Length;

    /// <summary>
    /// A file over <paramref name="bytes"/> without copying them; bytes past <paramref name="length"/> must be zero. The array is
    /// replaced when the file outgrows it.
    /// </summary>
    public static MemoryFile Adopt(byte[] bytes, long length, string name = "memory", bool readOnly = false) =>
        new(name, readOnly, new Disk { Bytes = bytes, Length = length });

    /// <summary>A new handle on the same content, as if the file had been closed and opened again.</summary>
    public MemoryFile Reopen(bool readOnly = false) => new(Name, readOnly, _disk);

    /// <summary>A copy of the whole content.</summary>
    public byte[] ToArray()
    {
        lock (_disk.Gate)
        {
            return _disk.Bytes.AsSpan(0, (int)_disk.Length).ToArray();
        }
    }

    /// <summary>The content itself, valid until the next change.</summary>
    public ReadOnlySpan<byte> Content
    {
        get
        {
            lock (_disk.Gate)
            {
                return _disk.Bytes.AsSpan(0, (int)_disk.Length);
            }
        }
    }

    public override ValueTask FlushAsync()
    {
        CheckOpen();
        return ValueTask.CompletedTask;
    }

    public override ValueTask ResizeAsync(long length)
    {
        CheckWritable("resize");
        lock (_disk.Gate)
        {
            _disk.Resize(length);
        }

        return ValueTask.CompletedTask;
    }

    public override ValueTask<FileExtent> MapAsync(long offset, long length)
    {
        CheckOpen();
        return new(new FileExtent(length, IsHole: offset >= Length));
    }

    public override ValueTask DisposeAsync()
    {
        CheckOpen();
        Volatile.Write(ref _disposed, true);
        return ValueTask.CompletedTask;
    }

    protected override ValueTask ReadCoreAsync(long offset, Memory<byte> buffer)
    {
        CheckOpen();
        lock (_disk.Gate)
        {
            int inside = (int)Math.Clamp(_disk.Length - offset, 0, buffer.Length);
            _disk.Bytes.AsSpan((int)Math.Min(offset, _disk.Length), inside).CopyTo(buffer.Span);
            buffer.Span[inside..].Clear();
        }

        return ValueTask.CompletedTask;
    }

    protected override ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        CheckWritable("write");
        lock (_disk.Gate)
        {
            buffer.Span.CopyTo(_disk.Grow(offset, buffer.Length));
        }

        return ValueTask.CompletedTask;
    }

    protected override ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap)
    {
        CheckWritable("zero");
        lock (_disk.Gate)
        {
            _disk.Grow(offset, length).Clear();
        }

        return ValueTask.CompletedTask;
    }

    protected override ValueTask<bool> PunchHoleCoreAsync(long offset, long length)
    {
        CheckWritable("punch");
        lock (_disk.Gate)
        {
            int inside = (int)Math.Clamp(_disk.Length - offset, 0, length);
            _disk.Bytes.AsSpan((int)Math.Min(offset, _disk.Length), inside).Clear();
        }

        return new ValueTask<bool>(true);
    }

    private void CheckOpen()
    {
        if (IsDisposed)
        {
            throw new InvalidOperationException($"'{Name}' was used after it had been closed");
        }
    }

    private void CheckWritable(string operation)
    {
        CheckOpen();
        if (ReadOnly)
        {
            throw new BlockIOException(Errno.EBADF, $"{operation} of '{Name}'");
        }
    }

    // What handles share. Guarded by Gate; bytes past Length are zero.
    private sealed class Disk
    {
        internal Lock Gate { get; } = new();

        internal required byte[] Bytes { get; set; }

        internal required long Length { get; set; }

        internal Span<byte> Grow(long offset, long length)
        {
            long end = offset + length;
            if (end > Bytes.Length)
            {
                byte[] larger = new byte[checked((int)Math.Max(end, Bytes.Length * 2L))];
                Bytes.AsSpan(0, (int)Length).CopyTo(larger);
                Bytes = larger;
            }

            Length = Math.Max(Length, end);
            return Bytes.AsSpan((int)offset, (int)length);
        }

        internal void Resize(long length)
        {
            if (length < Length)
            {
                Bytes.AsSpan((int)length, (int)(Length - length)).Clear();
                Length = length;
            }
            else if (length > Length)
            {
                Grow(length, 0);
            }
        }
    }
}
