using BlockMount.Storage;

namespace BlockMount.TestSupport.Crash;

/// <summary>
/// A file in memory that logs every change and flush, so that <see cref="CrashImages"/> can tell what a power cut may leave. Single-threaded;
/// with a <c>pause</c> calls overlap: each one waits before it takes effect and again before it completes. Owns the memory file.
/// </summary>
public sealed class RecordingFile : StorageFile
{
    private readonly MemoryFile _memory;
    private readonly Func<ValueTask>? _pause;

    /// <param name="memory">Holds the content; its state now is the durable one.</param>
    /// <param name="pause">What a call waits for, twice; null for a file that completes at once.</param>
    public RecordingFile(MemoryFile memory, StorageLog log, Func<ValueTask>? pause = null)
    {
        _memory = memory;
        Log = log;
        _pause = pause;
    }

    public override string Name => _memory.Name;

    public override bool ReadOnly => _memory.ReadOnly;

    public override long Length => _memory.Length;

    public override long AllocatedBytes => _memory.AllocatedBytes;

    /// <summary>What happened so far.</summary>
    public StorageLog Log { get; }

    public override async ValueTask FlushAsync()
    {
        StorageLogEntry entry = Log.Begin(StorageCalls.Flush, 0, 0);
        await PauseAsync();
        await _memory.FlushAsync();
        Log.End(entry);
        await PauseAsync();
    }

    public override async ValueTask ResizeAsync(long length)
    {
        StorageLogEntry entry = Log.Begin(StorageCalls.Resize, 0, length);
        await PauseAsync();
        await _memory.ResizeAsync(length);
        Log.End(entry);
        await PauseAsync();
    }

    public override ValueTask<FileExtent> MapAsync(long offset, long length) => _memory.MapAsync(offset, length);

    public override ValueTask DisposeAsync() => _memory.DisposeAsync();

    protected override async ValueTask ReadCoreAsync(long offset, Memory<byte> buffer)
    {
        await PauseAsync();
        await _memory.ReadAsync(offset, buffer);
        await PauseAsync();
    }

    protected override async ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        StorageLogEntry entry = Log.Begin(StorageCalls.Write, offset, buffer.Length);
        entry.Sectors = SectorsAfter(entry, buffer.Span);
        await PauseAsync();
        // Another call may have changed the rest of the first and last sector meanwhile.
        entry.Sectors = SectorsAfter(entry, buffer.Span);
        await _memory.WriteAsync(offset, buffer);
        Log.End(entry);
        await PauseAsync();
    }

    protected override async ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap)
    {
        StorageLogEntry entry = Log.Begin(StorageCalls.WriteZeroes, offset, length);
        entry.Sectors = ZeroedSectors(entry);
        await PauseAsync();
        entry.Sectors = ZeroedSectors(entry);
        await _memory.WriteZeroesAsync(offset, length, mayUnmap);
        Log.End(entry);
        await PauseAsync();
    }

    protected override async ValueTask<bool> PunchHoleCoreAsync(long offset, long length)
    {
        length = Math.Min(length, Math.Max(_memory.Length - offset, 0));
        if (length == 0)
        {
            return true;
        }

        StorageLogEntry entry = Log.Begin(StorageCalls.PunchHole, offset, length);
        entry.Sectors = ZeroedSectors(entry);
        await PauseAsync();
        entry.Sectors = ZeroedSectors(entry);
        bool punched = await _memory.PunchHoleAsync(offset, length);
        Log.End(entry);
        await PauseAsync();
        return punched;
    }

    private ValueTask PauseAsync() => _pause?.Invoke() ?? ValueTask.CompletedTask;

    private byte[]? ZeroedSectors(StorageLogEntry entry)
    {
        bool whole = ((entry.Offset | entry.Length) & (CrashImages.SectorSize - 1)) == 0;
        return whole ? null : SectorsAfter(entry, default);
    }

    private byte[] SectorsAfter(StorageLogEntry entry, ReadOnlySpan<byte> data)
    {
        byte[] sectors = new byte[entry.SectorCount * CrashImages.SectorSize];
        int head = (int)(entry.Offset - entry.FirstSectorOffset);
        int end = head + (int)entry.Length;
        if (head > 0)
        {
            CopyCurrent(entry.FirstSectorOffset, sectors.AsSpan(0, head));
        }

        if (end < sectors.Length)
        {
            CopyCurrent(entry.FirstSectorOffset + end, sectors.AsSpan(end));
        }

        data.CopyTo(sectors.AsSpan(head));
        return sectors;
    }

    private void CopyCurrent(long offset, Span<byte> destination)
    {
        ReadOnlySpan<byte> content = _memory.Content;
        int inside = (int)Math.Clamp(content.Length - offset, 0, destination.Length);
        content.Slice((int)Math.Min(offset, content.Length), inside).CopyTo(destination);
    }
}
