using BlockMount.Base;
using BlockMount.Storage;

namespace BlockMount.Tests.Formats;

/// <summary>A read-only file of any claimed length that holds some bytes at its start and zeros behind them. Never waits.</summary>
internal sealed class SparseFile(string name, long length, byte[] start) : StorageFile
{
    public override string Name => name;

    public override bool ReadOnly => true;

    public override long Length => length;

    public override long AllocatedBytes => start.Length;

    public override ValueTask FlushAsync() => ValueTask.CompletedTask;

    public override ValueTask ResizeAsync(long length) => throw Refused();

    public override ValueTask<FileExtent> MapAsync(long offset, long length) => new(new FileExtent(length, offset >= start.Length));

    public override ValueTask DisposeAsync() => ValueTask.CompletedTask;

    protected override ValueTask ReadCoreAsync(long offset, Memory<byte> buffer)
    {
        int inside = (int)Math.Clamp(start.Length - offset, 0, buffer.Length);
        start.AsSpan((int)Math.Min(offset, start.Length), inside).CopyTo(buffer.Span);
        buffer.Span[inside..].Clear();
        return ValueTask.CompletedTask;
    }

    protected override ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer) => throw Refused();

    protected override ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap) => throw Refused();

    protected override ValueTask<bool> PunchHoleCoreAsync(long offset, long length) => throw Refused();

    private BlockIOException Refused() => new(Errno.EBADF, $"change of '{name}'");
}
