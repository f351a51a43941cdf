using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>
/// A file whose every change is recorded before it is made: what it overwrites goes into an undo file, which is flushed first. Nothing that writes through
/// this can bypass it. Owns the file below; the undo file belongs to the <see cref="UndoLog"/>. Single-threaded, as a repair is.
/// </summary>
public sealed class UndoRecordingFile : StorageFile
{
    private readonly StorageFile _image;
    private readonly UndoLog _log;

    /// <param name="image">The image; disposed with this.</param>
    /// <param name="log">Takes the old content; not disposed with this.</param>
    public UndoRecordingFile(StorageFile image, UndoLog log)
    {
        _image = image;
        _log = log;
    }

    public override string Name => _image.Name;

    public override bool ReadOnly => _image.ReadOnly;

    public override long Length => _image.Length;

    public override long AllocatedBytes => _image.AllocatedBytes;

    public override ValueTask FlushAsync() => _image.FlushAsync();

    public override async ValueTask ResizeAsync(long length)
    {
        await _log.RecordAsync(_image, length, Math.Max(0, _image.Length - length));
        await _image.ResizeAsync(length);
    }

    public override ValueTask<FileExtent> MapAsync(long offset, long length) => _image.MapAsync(offset, length);

    public override ValueTask DisposeAsync() => _image.DisposeAsync();

    protected override ValueTask ReadCoreAsync(long offset, Memory<byte> buffer) => _image.ReadAsync(offset, buffer);

    protected override async ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        await _log.RecordAsync(_image, offset, buffer.Length);
        await _image.WriteAsync(offset, buffer);
    }

    protected override async ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap)
    {
        await _log.RecordAsync(_image, offset, length);
        await _image.WriteZeroesAsync(offset, length, mayUnmap);
    }

    protected override async ValueTask<bool> PunchHoleCoreAsync(long offset, long length)
    {
        await _log.RecordAsync(_image, offset, length);
        return await _image.PunchHoleAsync(offset, length);
    }
}
