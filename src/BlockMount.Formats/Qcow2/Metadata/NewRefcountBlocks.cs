namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// Which refcount blocks a <see cref="ShadowRefcounts"/> writes anew, and where. Blocks are numbered as in the new refcount table. Memory: 9 bytes for
/// each block up to the last one. Under the metadata mutex.
/// </summary>
internal sealed class NewRefcountBlocks
{
    // By number: is there; its host offset (0: not decided).
    private bool[] _contained = [];
    private long[] _places = [];
    private bool _hasGrown;

    /// <summary>The number behind the last block; 0 if there is none.</summary>
    internal long End => Array.FindLastIndex(_contained, static contained => contained) + 1L;

    /// <summary>Adds a block, if it is not there already.</summary>
    /// <param name="block">Less than the entries of the largest refcount table.</param>
    internal void Mark(long block)
    {
        if (block >= _contained.Length)
        {
            int length = (int)Math.Max(block + 1, _contained.Length * 2L);
            Array.Resize(ref _contained, length);
            Array.Resize(ref _places, length);
        }

        _hasGrown |= !_contained[block];
        _contained[block] = true;
    }

    /// <summary>Whether a block came since the last question.</summary>
    internal bool HasGrown()
    {
        bool hasGrown = _hasGrown;
        _hasGrown = false;
        return hasGrown;
    }

    internal bool Contains(long block) => block < _contained.Length && _contained[block];

    /// <summary>Whether any block from <paramref name="first"/> to <paramref name="last"/>, both included, is there.</summary>
    internal bool ContainsAny(long first, long last)
    {
        for (long block = first; block <= last && block < _contained.Length; block++)
        {
            if (_contained[block])
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Host offset of a block that <see cref="PlaceAsync"/> has found a cluster for.</summary>
    internal long PlaceOf(long block) => _places[block];

    /// <summary>Takes a cluster for each block that has none.</summary>
    /// <returns>False if there was none to take.</returns>
    internal async ValueTask<bool> PlaceAsync(ShadowChange change, Geometry geometry)
    {
        bool any = false;
        for (int block = 0; block < _contained.Length; block++)
        {
            if (_contained[block] && _places[block] == 0)
            {
                _places[block] = geometry.OffsetOf((await change.AllocateAsync(1)).Start);
                any = true;
            }
        }

        return any;
    }
}
