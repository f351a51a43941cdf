using BlockMount.Base;
using BlockMount.Storage;

namespace BlockMount.Tests.Formats.Qcow2;

/// <summary>A file that takes no changes although it is open for writing, as a disk that fails. Owns the file inside.</summary>
internal sealed class RefusingFile(StorageFile inner) : StorageFile
{
    public override string Name => inner.Name;

    public override bool ReadOnly => false;

    public override long Length => inner.Length;

    public override long AllocatedBytes => inner.AllocatedBytes;

    public override ValueTask FlushAsync() => throw Refusal();

    public override ValueTask ResizeAsync(long length) => throw Refusal();

    public override ValueTask<FileExtent> MapAsync(long offset, long length) => inner.MapAsync(offset, length);

    public override ValueTask DisposeAsync() => inner.DisposeAsync();

    protected override ValueTask ReadCoreAsync(long offset, Memory<byte> buffer) => inner.ReadAsync(offset, buffer);

    protected override ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer) => throw Refusal();

    protected override ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap) => throw Refusal();

    protected override ValueTask<bool> PunchHoleCoreAsync(long offset, long length) => throw Refusal();

    private BlockIOException Refusal() => new(Errno.EIO, $"change of '{inner.Name}'");
}
