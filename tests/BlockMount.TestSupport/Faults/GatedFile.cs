using BlockMount.Storage;

namespace BlockMount.TestSupport.Faults;

/// <summary>A file of 4096 bytes whose reads wait until the test lets them go. Everything else succeeds at once and does nothing.</summary>
public sealed class GatedFile : StorageFile
{
    private readonly TaskCompletionSource<byte[]> _content = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _asked = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public override string Name => "gated";

    public override bool ReadOnly => false;

    public override long Length => 4096;

    public override long AllocatedBytes => 4096;

    public Task Asked => _asked.Task;

    public void Open(byte[] content) => _content.SetResult(content);

    public void Fail(Exception failure) => _content.SetException(failure);

    public override ValueTask FlushAsync() => ValueTask.CompletedTask;

    public override ValueTask ResizeAsync(long length) => ValueTask.CompletedTask;

    public override ValueTask<FileExtent> MapAsync(long offset, long length) => new(new FileExtent(length, IsHole: false));

    public override ValueTask DisposeAsync() => ValueTask.CompletedTask;

    protected override async ValueTask ReadCoreAsync(long offset, Memory<byte> buffer)
    {
        _asked.TrySetResult();
        (await _content.Task).CopyTo(buffer);
    }

    protected override ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer) => ValueTask.CompletedTask;

    protected override ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap) => ValueTask.CompletedTask;

    protected override ValueTask<bool> PunchHoleCoreAsync(long offset, long length) => new(false);
}
