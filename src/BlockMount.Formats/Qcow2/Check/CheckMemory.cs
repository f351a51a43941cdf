namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// The large arrays of a check, for a repair that checks and counts several times: each run takes over those of the one before, which must not be used any
/// more. Without this the peak would be several times what one run needs. Single-threaded.
/// </summary>
internal sealed class CheckMemory
{
    private WindowCounts? _counts;
    private byte[]?[] _blocks = [];
    private int _blockBytes;

    /// <summary>Zeroed counts of at least <paramref name="clusters"/> clusters.</summary>
    internal WindowCounts TakeCounts(long clusters)
    {
        if (_counts is null || _counts.Length < clusters)
        {
            // A repair lets the file grow a little.
            _counts = null;
            _counts = new WindowCounts(Math.Min(clusters + (clusters / 64), Array.MaxLength));
        }
        else
        {
            _counts.Clear();
        }

        return _counts;
    }

    /// <summary>Room for at least <paramref name="slots"/> buffers of <paramref name="bytes"/> bytes, some of which exist already, with any content.</summary>
    internal byte[]?[] TakeBlocks(int slots, int bytes)
    {
        if (_blocks.Length < slots || _blockBytes != bytes)
        {
            byte[]?[] blocks = new byte[slots][];
            if (_blockBytes == bytes)
            {
                _blocks.CopyTo(blocks, 0);
            }

            _blocks = blocks;
            _blockBytes = bytes;
        }

        return _blocks;
    }
}
