using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// Tells whether a table lies in a hole of the file, where it reads as zeros and need not be read. Keeps the last answer of the file system, so that any
/// number of tables in one hole, or in one run of data, cost one question. Wrong once the file is written to: <see cref="Forget"/>. Single-threaded.
/// </summary>
internal sealed class HoleMap(StorageFile file)
{
    // Reading so little is cheaper than asking for holes.
    private const int BytesMin = 4 << 10;

    // What is known: one extent, empty at first.
    private long _start;
    private long _end;
    private bool _isHole;

    /// <summary>The end of the hole that <paramref name="offset"/> lies in; <paramref name="offset"/> itself if there is data, or nobody can say.</summary>
    internal ValueTask<long> HoleEndAsync(long offset) =>
        offset >= _start && offset < _end ? new ValueTask<long>(_isHole ? _end : offset) : AskAsync(offset);

    /// <summary>
    /// How much of the next <paramref name="left"/> bytes from <paramref name="offset"/> on need not be read, because it lies in a hole: all of it, or a multiple
    /// of <paramref name="chunk"/> bytes, so that whoever reads by chunks goes on where one begins. 0 if the first chunk must be read.
    /// </summary>
    internal async ValueTask<long> SkippableAsync(long offset, long left, int chunk)
    {
        long hole = left > BytesMin ? await HoleEndAsync(offset) - offset : 0;
        return hole >= left ? left : hole / chunk * chunk;
    }

    /// <summary>To be called after the file has changed.</summary>
    internal void Forget() => _end = _start;

    private async ValueTask<long> AskAsync(long offset)
    {
        FileExtent extent = await file.MapAsync(offset, long.MaxValue - offset);
        (_start, _end, _isHole) = (offset, offset + extent.Length, extent.IsHole);
        return _isHole ? _end : offset;
    }
}
