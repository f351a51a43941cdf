using BlockMount.Block.Nodes;
using BlockMount.Formats;

namespace BlockMount.Block.Index;

/// <summary>
/// One merged map of everything below an active layer: a read of what the active layer does not hold is one look-up here, however many images there
/// are, and so is a hole. It is filled by the answers that reads need, and keeps to its memory by forgetting. A hit takes no lock and allocates nothing.
/// <para>It is never patched. The images it speaks for are open read-only, so their answers stay true as long as the graph stays as it is; below the
/// first node that is not such an image nothing is mapped, only who is to be asked. When the graph changes, the index is dropped as a whole
/// (<see cref="Node.IndexBelow"/>). See README.md beside this file. Any thread, concurrently. Owns no nodes.</para>
/// </summary>
internal sealed class ChainIndex
{
    // What a miss asks for at least, in granules: neighbours come nearly for free.
    private const int GranulesAsked = 16;

    private readonly ChainLayers _layers;
    private readonly ExtentStore _store;
    private readonly int _pageBits;

    // Guards the builder, its input, and every addition to the store and the layers' sources. Never held across an await; nothing else is locked under it.
    private readonly Lock _gate = new();
    private readonly PageBuilder _builder;
    private readonly List<Piece> _present = [];

    private ChainIndex(ChainLayers layers, long bytes)
    {
        _layers = layers;
        _pageBits = layers.PageBits;
        _store = new ExtentStore(bytes, (layers.Size >> _pageBits) + 1);
        _builder = new PageBuilder(layers, _store.PiecesMax);
    }

    /// <summary>Bytes of memory in use for the map.</summary>
    internal long AllocatedBytes => _store.AllocatedBytes;

    /// <summary>An empty index of the chain from <paramref name="backing"/> down.</summary>
    /// <param name="bytes">Memory it may take.</param>
    /// <returns>Null if an index would be of no use: too little memory, or <paramref name="backing"/> itself may change.</returns>
    internal static ChainIndex? TryCreate(Node backing, long bytes)
    {
        if (bytes < ExtentStore.BytesMin)
        {
            return null;
        }

        ChainLayers layers = new(backing);
        return layers.Count == 0 ? null : new ChainIndex(layers, bytes);
    }

    /// <summary>Fills the buffer (not empty) with what the chain reads at <paramref name="offset"/>. The range lies inside the first backing file.</summary>
    /// <exception cref="Base.BlockIOException">A layer cannot be read. Nothing of that is kept.</exception>
    internal ValueTask ReadAsync(long offset, Memory<byte> buffer) =>
        TryFind(offset, out Place place, out long length) && length >= buffer.Length
            ? _layers.ReadAsync(place, offset, buffer)
            : ReadPiecesAsync(offset, buffer);

    /// <summary>
    /// Tells how many of the range's first bytes, at least 1, are of one kind, and whether they are zeros for certain. The range lies inside the first
    /// backing file. Holes of host files count as data.
    /// </summary>
    internal ValueTask<(long Length, bool IsZero)> FindZerosAsync(long offset, long length) =>
        TryFind(offset, out Place place, out long found)
            ? new ValueTask<(long, bool)>((Math.Min(found, length), place.IsZero))
            : LocateZerosAsync(offset, length);

    // Answers end at the end of a page at the latest.
    private bool TryFind(long offset, out Place place, out long length)
    {
        int within = (int)(offset & ((1L << _pageBits) - 1));
        bool isHere = _store.TryFind(offset >> _pageBits, within, out place, out int end) && !place.IsUnknown;
        length = Math.Min(end, 1 << _pageBits) - within;
        return isHere;
    }

    private async ValueTask ReadPiecesAsync(long offset, Memory<byte> buffer)
    {
        while (!buffer.IsEmpty)
        {
            int step;
            if (TryFind(offset, out Place place, out long length))
            {
                step = (int)Math.Min(length, buffer.Length);
                await _layers.ReadAsync(place, offset, buffer[..step]);
            }
            else
            {
                Located located = await LocateAsync(offset, buffer.Length);
                step = (int)Math.Min(located.Mapping.Length, buffer.Length);
                await ChainLayers.ReadAsync(located, offset, buffer[..step]);
            }

            offset += step;
            buffer = buffer[step..];
        }
    }

    private async ValueTask<(long Length, bool IsZero)> LocateZerosAsync(long offset, long length)
    {
        Located located = await LocateAsync(offset, length);
        return (Math.Min(length, located.Mapping.Length), located.Mapping.Kind == MappingKind.Zero);
    }

    // The layers are asked in turn, as without an index, and load no more metadata than that. Then everything that they can tell about the whole
    // page without loading any more is kept.
    private async ValueTask<Located> LocateAsync(long offset, long length)
    {
        long pageStart = offset >> _pageBits << _pageBits;
        int pageEnd = (int)Math.Min(1L << _pageBits, _layers.Size - pageStart);
        int within = (int)(offset - pageStart);
        long asked = Math.Min(Math.Max(length, (long)GranulesAsked * _layers.Granule), pageEnd - within);
        Located located = await _layers.LocateAsync(offset, asked);
        lock (_gate)
        {
            KeepLocked(pageStart, pageEnd, within, located);
        }

        return located;
    }

    private void KeepLocked(long pageStart, int pageEnd, int within, Located located)
    {
        long page = pageStart >> _pageBits;
        if (_store.TryFind(page, within, out Place place, out _) && !place.IsUnknown)
        {
            // Somebody else was here at the same time.
            return;
        }

        _present.Clear();
        _ = _store.TryCopy(page, pageEnd, _present);
        Piece found = new(within, within + (int)located.Mapping.Length, _layers.PlaceOf(located, pageStart + within));
        _store.Put(page, _builder.Build(pageStart, pageEnd, _present, found));
    }
}
