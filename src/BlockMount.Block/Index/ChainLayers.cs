using System.Numerics;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Storage;

namespace BlockMount.Block.Index;

/// <summary>
/// The images of a backing chain that nobody can change while they are open, from the first backing file down, and what they all stand on. Here an index
/// asks where bytes are. Owns none of the nodes. Any thread, except where a member says otherwise.
/// </summary>
internal sealed class ChainLayers
{
    // What a granule is taken for where no image has clusters.
    private const int GranuleDefault = 64 << 10;

    private const int PageGranules = 512;
    private const int PageBitsMin = 16;
    private const int PageBitsMax = 30;

    private readonly FormatNode[] _layers;

    // Below the last layer: a node that may change, or no image. It is read like any node, and never mapped. Null if there is none.
    private readonly Node? _rest;

    // By number, from 1 on: what a place names. Appended to by the thread that adds to the index; replaced as a whole when it grows.
    private Source[] _sources = new Source[8];
    private int _sourceEnd = 1;

    /// <param name="top">The first backing file.</param>
    internal ChainLayers(Node top)
    {
        List<FormatNode> layers = [];
        Node? node = top;
        for (; node is FormatNode { ReadOnly: true } image; node = node.Backing)
        {
            layers.Add(image);
        }

        _layers = [.. layers];
        _rest = node;
        Size = top.Size;
        Granule = layers.Select(layer => layer.Driver.ZeroUnit).Where(unit => unit > 1).DefaultIfEmpty(GranuleDefault).Min();
        PageBits = Math.Clamp(BitOperations.Log2((uint)Granule * PageGranules), PageBitsMin, PageBitsMax);
    }

    /// <summary>How many images can be asked.</summary>
    internal int Count => _layers.Length;

    /// <summary>Bytes of the chain's disk.</summary>
    internal long Size { get; }

    /// <summary>The smallest unit in which the images allocate, in bytes.</summary>
    internal int Granule { get; }

    /// <summary>log2 of the bytes of a page: as many granules as a slice of an L2 table mostly has entries, so that loading one tells all.</summary>
    internal int PageBits { get; }

    /// <summary>Finds the layer that decides about the range's first bytes; loads what metadata that takes.</summary>
    /// <returns>The answer covers 1 to <paramref name="length"/> bytes.</returns>
    /// <exception cref="Base.BlockIOException">A layer cannot tell.</exception>
    internal async ValueTask<Located> LocateAsync(long offset, long length)
    {
        for (int i = 0; i < _layers.Length; i++)
        {
            FormatDriver driver = _layers[i].Driver;
            long inside = driver.VirtualSize - offset;
            if (inside <= 0)
            {
                return Located.Zeros(length);
            }

            Mapping mapping = await driver.MapAsync(offset, Math.Min(length, inside), MapPurpose.Transfer);
            length = mapping.Length;
            if (mapping.Kind != MappingKind.Backing)
            {
                return new Located(mapping, _layers[i]);
            }
        }

        return Below(offset, length);
    }

    /// <summary>Fills the buffer with what <see cref="LocateAsync"/> found at <paramref name="offset"/>; not longer than that.</summary>
    internal static ValueTask ReadAsync(Located located, long offset, Memory<byte> buffer)
    {
        switch (located.Mapping.Kind)
        {
            case MappingKind.Data:
                return located.Mapping.File!.ReadAsync(located.Mapping.FileOffset, buffer);
            case MappingKind.Zero:
                buffer.Span.Clear();
                return ValueTask.CompletedTask;
            default:
                return located.Node!.ReadAsync(offset, buffer);
        }
    }

    /// <summary>Fills the buffer from a place that lies here at <paramref name="offset"/>.</summary>
    internal ValueTask ReadAsync(Place place, long offset, Memory<byte> buffer)
    {
        if (place.IsZero)
        {
            buffer.Span.Clear();
            return ValueTask.CompletedTask;
        }

        Source source = Volatile.Read(ref _sources)[place.Source];
        return source.File is not null ? source.File.ReadAsync(place.Offset, buffer) : source.Node!.ReadAsync(offset, buffer);
    }

    /// <summary>Asks one layer about a range, as far as it can tell without reading anything. It lies inside that layer.</summary>
    /// <returns>False if nothing can be said about the first <see cref="Mapping.Length"/> bytes.</returns>
    internal bool TryMap(int layer, long offset, long length, out Mapping mapping) =>
        _layers[layer].Driver.TryMapCached(offset, length, out mapping);

    /// <summary>Bytes of one layer's disk.</summary>
    internal long SizeOf(int layer) => _layers[layer].Size;

    /// <summary>What no layer holds.</summary>
    internal Located Below(long offset, long length)
    {
        if (_rest is null || offset >= _rest.Size)
        {
            return Located.Zeros(length);
        }

        return new Located(new Mapping(MappingKind.Backing, Math.Min(length, _rest.Size - offset)), _rest);
    }

    /// <summary>The place of what one layer answered, as one word. One thread at a time.</summary>
    internal Place PlaceOf(int layer, Mapping mapping, long offset) => PlaceOf(new Located(mapping, _layers[layer]), offset);

    /// <inheritdoc cref="PlaceOf(int, Mapping, long)"/>
    internal Place PlaceOf(Located located, long offset) => located.Mapping.Kind switch
    {
        MappingKind.Zero => Place.Zero,
        MappingKind.Data => PlaceIn(new Source(located.Mapping.File, null), located.Mapping.FileOffset),
        // Compressed, or not to be looked into: the node that holds it reads it.
        _ => PlaceIn(new Source(null, located.Node), offset),
    };

    private Place PlaceIn(Source source, long offset)
    {
        int number = Array.IndexOf(_sources, source, 1, _sourceEnd - 1);
        if (number < 0)
        {
            number = AddSource(source);
        }

        return number == 0 || offset >= Place.OffsetEnd ? Place.Unknown : Place.Of(number, offset);
    }

    // 0 if there is no number left. Whoever reads a place sees the table that it was made with, or a later one.
    private int AddSource(Source source)
    {
        if (_sourceEnd == Place.SourceEnd)
        {
            return 0;
        }

        Source[] table = _sources;
        if (_sourceEnd == table.Length)
        {
            Array.Resize(ref table, Math.Min(table.Length * 2, Place.SourceEnd));
        }

        table[_sourceEnd] = source;
        Volatile.Write(ref _sources, table);
        return _sourceEnd++;
    }

    // One of the two is set.
    private readonly record struct Source(StorageFile? File, Node? Node);
}

/// <summary>What the layers say about a range.</summary>
/// <param name="Mapping">Data and Zero count for themselves; whatever else it is, <paramref name="Node"/> reads it.</param>
/// <param name="Node">The node that answered; null where none holds the bytes.</param>
internal readonly record struct Located(Mapping Mapping, Node? Node)
{
    internal static Located Zeros(long length) => new(new Mapping(MappingKind.Zero, length), null);
}
