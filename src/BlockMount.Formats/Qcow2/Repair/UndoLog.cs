using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>
/// The undo file of a repair, being written: the old content of everything that changes, each part once, on disk before the change. The file is made at the
/// first change. Layout in <see cref="UndoRecord"/>. Single-threaded.
/// </summary>
public sealed class UndoLog : IAsyncDisposable
{
    private readonly Func<ValueTask<StorageFile>> _create;

    // What is recorded already; disjoint, ascending.
    private readonly List<(long Start, long End)> _recorded = [];

    private StorageFile? _file;
    private long _position;
    private long _originalLength;

    /// <param name="create">Makes the empty undo file, durably; called at most once. The log owns it.</param>
    public UndoLog(Func<ValueTask<StorageFile>> create)
    {
        _create = create;
    }

    /// <summary>True if something was recorded, that is if the undo file exists.</summary>
    public bool IsStarted => _file is not null;

    /// <summary>Makes sure that the old content of the range is in the undo file, durably. What lies behind the original end needs none.</summary>
    internal async ValueTask RecordAsync(StorageFile image, long offset, long length)
    {
        if (_file is null)
        {
            await StartAsync(image);
        }

        long end = Math.Min(offset + length, _originalLength);
        bool appended = false;
        foreach ((long start, long stop) in Missing(offset, end))
        {
            for (long place = start; place < stop; place += UndoRecord.ContentBytesMax)
            {
                byte[] old = new byte[Math.Min(stop - place, UndoRecord.ContentBytesMax)];
                await image.ReadAsync(place, old);
                await AppendAsync(new UndoRecord(UndoRecordKind.OldContent, place, old));
                appended = true;
            }
        }

        if (appended)
        {
            await _file!.FlushAsync();
        }
    }

    /// <summary>
    /// Notes that the repair is done and what the image looks like now, so that undoing can tell whether somebody has used it since.
    /// </summary>
    public async ValueTask SealAsync(StorageFile image)
    {
        if (_file is not null)
        {
            byte[] fingerprint = await ImageFingerprint.ComputeAsync(image, _recorded);
            await AppendAsync(new UndoRecord(UndoRecordKind.Sealed, 0, fingerprint));
            await _file.FlushAsync();
        }
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _file?.DisposeAsync() ?? ValueTask.CompletedTask;

    private async ValueTask StartAsync(StorageFile image)
    {
        _file = await _create();
        _originalLength = image.Length;
        byte[] header = new byte[UndoRecord.ImageHeaderBytes];
        await image.ReadAsync(0, header);
        byte[] start = UndoRecord.EncodeStart(_originalLength, header);
        await _file.WriteAsync(0, start);
        _position = start.Length;
        await _file.FlushAsync();
    }

    private async ValueTask AppendAsync(UndoRecord record)
    {
        byte[] bytes = record.Encode();
        await _file!.WriteAsync(_position, bytes);
        _position += bytes.Length;
    }

    // The parts of a range that are not recorded yet; they are from now on.
    private List<(long Start, long End)> Missing(long start, long end)
    {
        List<(long, long)> missing = [];
        if (start >= end)
        {
            return missing;
        }

        int first = _recorded.FindIndex(range => range.End >= start);
        first = first < 0 ? _recorded.Count : first;
        int last = first;
        (long mergedStart, long mergedEnd) = (start, end);
        long position = start;
        for (; last < _recorded.Count && _recorded[last].Start <= end; last++)
        {
            if (_recorded[last].Start > position)
            {
                missing.Add((position, _recorded[last].Start));
            }

            position = Math.Max(position, _recorded[last].End);
            mergedStart = Math.Min(mergedStart, _recorded[last].Start);
            mergedEnd = Math.Max(mergedEnd, _recorded[last].End);
        }

        if (position < end)
        {
            missing.Add((position, end));
        }

        _recorded.RemoveRange(first, last - first);
        _recorded.Insert(first, (mergedStart, mergedEnd));
        return missing;
    }
}
