using BlockMount.Storage;

namespace BlockMount.TestSupport.Mutants;

/// <summary>Passes every call on to the file below, which it owns. A mutant overrides what it gets wrong.</summary>
internal class MutantFile(StorageFile inner) : StorageFile
{
    public override string Name => Inner.Name;

    public override bool ReadOnly => Inner.ReadOnly;

    public override long Length => Inner.Length;

    public override long AllocatedBytes => Inner.AllocatedBytes;

    protected StorageFile Inner { get; } = inner;

    public override ValueTask FlushAsync() => Inner.FlushAsync();

    public override ValueTask ResizeAsync(long length) => Inner.ResizeAsync(length);

    public override ValueTask<FileExtent> MapAsync(long offset, long length) => Inner.MapAsync(offset, length);

    public override ValueTask DisposeAsync() => Inner.DisposeAsync();

    protected override ValueTask ReadCoreAsync(long offset, Memory<byte> buffer) => Inner.ReadAsync(offset, buffer);

    protected override ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer) => Inner.WriteAsync(offset, buffer);

    protected override ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap) => Inner.WriteZeroesAsync(offset, length, mayUnmap);

    protected override ValueTask<bool> PunchHoleCoreAsync(long offset, long length) => Inner.PunchHoleAsync(offset, length);
}
