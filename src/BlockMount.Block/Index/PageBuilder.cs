using BlockMount.Formats;

namespace BlockMount.Block.Index;

/// <summary>
/// Works out where a whole page comes from, with the metadata that happens to be in memory: layer by layer, each asked only about what
/// all above it leave open. What would have to be loaded stays unknown. Reads nothing. One thread at a time; its lists are used again.
/// </summary>
internal sealed class PageBuilder
{
    private readonly ChainLayers _layers;
    private readonly int _piecesMax;
    private readonly List<Piece> _known = [];
    private readonly List<Piece> _merged = [];
    private List<Piece> _open = [];
    private List<Piece> _below = [];

    internal PageBuilder(ChainLayers layers, int piecesMax)
    {
        _layers = layers;
        _piecesMax = piecesMax;
    }

    /// <summary>The page's pieces: what <paramref name="present"/> knows, <paramref name="found"/>, and what the layers can tell about the rest.</summary>
    /// <param name="pageStart">Guest offset of the page.</param>
    /// <param name="pageEnd">Bytes of the page that lie inside the disk.</param>
    /// <param name="present">The whole page as it was known before; empty if it was not.</param>
    /// <param name="found">A part that was asked for, and its place.</param>
    /// <returns>Without a gap, from 0 to <paramref name="pageEnd"/>; valid until the next call.</returns>
    internal List<Piece> Build(long pageStart, int pageEnd, List<Piece> present, Piece found)
    {
        _known.Clear();
        _open.Clear();
        _known.Add(found);
        if (present.Count == 0)
        {
            OpenAround(new Piece(0, pageEnd, Place.Unknown), found);
        }

        foreach (Piece piece in present)
        {
            if (piece.Place.IsUnknown)
            {
                OpenAround(piece, found);
            }
            else
            {
                KnowAround(piece, found);
            }
        }

        AskLayers(pageStart);
        return Merge(pageEnd);
    }

    private void OpenAround(Piece piece, Piece found)
    {
        if (piece.Start < found.Start)
        {
            _open.Add(piece with { End = Math.Min(piece.End, found.Start) });
        }

        if (piece.End > found.End)
        {
            _open.Add(piece with { Start = Math.Max(piece.Start, found.End) });
        }
    }

    private void KnowAround(Piece piece, Piece found)
    {
        if (piece.Start < found.Start)
        {
            _known.Add(piece with { End = Math.Min(piece.End, found.Start) });
        }

        if (piece.End > found.End)
        {
            int start = Math.Max(piece.Start, found.End);
            _known.Add(new Piece(start, piece.End, piece.Place.After(start - piece.Start)));
        }
    }

    private void AskLayers(long pageStart)
    {
        for (int layer = 0; layer < _layers.Count && _open.Count > 0; layer++)
        {
            _below.Clear();
            // Both are multiples of nothing in particular: a backing file may end anywhere.
            int end = (int)Math.Clamp(_layers.SizeOf(layer) - pageStart, 0, int.MaxValue);
            foreach (Piece piece in _open)
            {
                AskLayer(layer, pageStart, piece.Start, Math.Min(piece.End, end));
                if (piece.End > end)
                {
                    // Behind the end of a backing file there are zeros, whatever lies below it.
                    _known.Add(new Piece(Math.Max(piece.Start, end), piece.End, Place.Zero));
                }
            }

            (_open, _below) = (_below, _open);
        }

        foreach (Piece piece in _open)
        {
            for (int start = piece.Start; start < piece.End;)
            {
                Located below = _layers.Below(pageStart + start, piece.End - start);
                start = Know(start, below.Mapping.Length, _layers.PlaceOf(below, pageStart + start));
            }
        }
    }

    private void AskLayer(int layer, long pageStart, int start, int end)
    {
        while (start < end)
        {
            bool told = _layers.TryMap(layer, pageStart + start, end - start, out Mapping mapping);
            if (told && mapping.Kind != MappingKind.Backing)
            {
                start = Know(start, mapping.Length, _layers.PlaceOf(layer, mapping, pageStart + start));
                continue;
            }

            int behind = start + (int)mapping.Length;
            if (told)
            {
                Leave(start, behind);
            }

            start = behind;
        }
    }

    private int Know(int start, long length, Place place)
    {
        int end = start + (int)length;
        _known.Add(new Piece(start, end, place));
        return end;
    }

    // For the next layer, as part of the piece before it where they touch: answers may end where nothing changes.
    private void Leave(int start, int end)
    {
        if (_below.Count > 0 && _below[^1].End == start)
        {
            _below[^1] = _below[^1] with { End = end };
        }
        else
        {
            _below.Add(new Piece(start, end, Place.Unknown));
        }
    }

    // In order, touching pieces that go on in one place as one, unknown where nothing is known. What there is no room for becomes unknown again.
    private List<Piece> Merge(int pageEnd)
    {
        _known.Sort(static (left, right) => left.Start.CompareTo(right.Start));
        _merged.Clear();
        int at = 0;
        foreach (Piece piece in _known)
        {
            if (piece.Start > at)
            {
                Append(new Piece(at, piece.Start, Place.Unknown));
            }

            Append(piece);
            at = piece.End;
        }

        if (at < pageEnd)
        {
            Append(new Piece(at, pageEnd, Place.Unknown));
        }

        if (_merged.Count > _piecesMax)
        {
            int cut = _merged[_piecesMax - 1].Start;
            _merged.RemoveRange(_piecesMax - 1, _merged.Count - _piecesMax + 1);
            _merged.Add(new Piece(cut, pageEnd, Place.Unknown));
        }

        return _merged;
    }

    private void Append(Piece piece)
    {
        if (_merged.Count > 0)
        {
            Piece last = _merged[^1];
            if (last.Place.After(last.End - last.Start) == piece.Place)
            {
                _merged[^1] = last with { End = piece.End };
                return;
            }
        }

        _merged.Add(piece);
    }
}
