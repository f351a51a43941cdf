using BlockMount.Storage;

namespace BlockMount.Tests.Check;

/// <summary>A file with one hole, far behind its content, that counts what is read in the hole and how often it is asked for.</summary>
internal sealed class SparseFile(StorageFile inner, long length, long allocated) : StorageFile
{
    internal long BytesReadInHole { get; private set; }

    internal int Questions { get; private set; }

    public override string Name => inner.Name;

    public override bool ReadOnly => inner.ReadOnly;

    public override long Length => Math.Max(length, inner.Length);

    public override long AllocatedBytes => allocated;

    public override ValueTask FlushAsync() => inner.FlushAsync();

    public override ValueTask ResizeAsync(long length) => throw new NotSupportedException();

    public override ValueTask<FileExtent> MapAsync(long offset, long length)
    {
        Questions++;
        return new(offset >= inner.Length ? new FileExtent(length, IsHole: true) : new FileExtent(Math.Min(length, inner.Length - offset), IsHole: false));
    }

    public override ValueTask DisposeAsync() => inner.DisposeAsync();

    protected override ValueTask ReadCoreAsync(long offset, Memory<byte> buffer)
    {
        BytesReadInHole += offset >= inner.Length ? buffer.Length : 0;
        return inner.ReadAsync(offset, buffer);
    }

    protected override ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer) => inner.WriteAsync(offset, buffer);

    protected override ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap) => inner.WriteZeroesAsync(offset, length, mayUnmap);

    protected override ValueTask<bool> PunchHoleCoreAsync(long offset, long length) => inner.PunchHoleAsync(offset, length);
}
