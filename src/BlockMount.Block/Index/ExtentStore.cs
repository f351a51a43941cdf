using System.Diagnostics;
using System.Numerics;

namespace BlockMount.Block.Index;

/// <summary>
/// The memory of an index: the places of whole pages (aligned guest ranges), within a fixed number of bytes. Looking up takes no lock and
/// allocates nothing; adding is for one thread at a time. What is added pushes out what was added first.
/// <para>Records lie one behind the other in a ring of words, none across the end of a segment:
/// <code>
/// | page number, 48 bits | pieces, 16 bits |   header
/// | start 1, 32 bits | start 0, 32 bits |      one word for two starts, bytes from the start of the page, ascending from 0
/// | place 0 | place 1 | ...                     one word each
/// </code>
/// A position counts all words ever added, so it names a record for ever; what lies below the tail has been, or is just being,
/// overwritten. A reader looks at the tail again when it has read: then what it read was whole. Segments are allocated when the ring
/// first reaches them.</para>
/// </summary>
internal sealed class ExtentStore
{
    /// <summary>Fewer bytes are of no use.</summary>
    internal const long BytesMin = 512;

    private const int SegmentBitsMax = 15;
    private const int PiecesMaxLimit = 1024;
    private const int CountBits = 16;
    private const int Ways = 4;

    // The directory may take this part of the memory.
    private const int DirectoryShare = 4;

    // Position of each page's record, at the slot of its number or one of the next; 0: none. Slots behind the last one are there for the ways only.
    private readonly long[] _directory;
    private readonly int _slotMask;

    private readonly int _segmentBits;
    private readonly ulong[]?[] _segments;
    private readonly long _capacity;

    // Words. Changed by whoever adds; the tail is read by everybody.
    private long _head;
    private long _tail;

    /// <param name="bytes">What directory and ring may take together, at least <see cref="BytesMin"/>.</param>
    /// <param name="pageCount">Pages there can be.</param>
    internal ExtentStore(long bytes, long pageCount)
    {
        Debug.Assert(bytes >= BytesMin);
        long slotsMax = bytes / DirectoryShare / sizeof(long);
        int slots = (int)Math.Min(BitOperations.RoundUpToPowerOf2((ulong)pageCount), BitOperations.RoundUpToPowerOf2((ulong)slotsMax + 1) / 2);
        _slotMask = slots - 1;
        _directory = new long[slots + Ways - 1];

        long words = (bytes / sizeof(ulong)) - _directory.Length;
        _segmentBits = Math.Min(SegmentBitsMax, BitOperations.Log2((ulong)words) - 1);
        _segments = new ulong[(int)(words >> _segmentBits)][];
        _capacity = (long)_segments.Length << _segmentBits;
        // Position 0 means "none", and everything below the tail is gone.
        _head = _capacity;
        _tail = _capacity;
        PiecesMax = Math.Min(PiecesMaxLimit, ((1 << _segmentBits) - 2) * 2 / 3);
    }

    /// <summary>Pieces that one page can have.</summary>
    internal int PiecesMax { get; }

    /// <summary>Bytes allocated by now; never more than was given.</summary>
    internal long AllocatedBytes => (_directory.Length + ((long)_segments.Count(static segment => segment is not null) << _segmentBits)) * sizeof(long);

    /// <summary>The piece of the page that holds the byte at <paramref name="within"/>. Any thread.</summary>
    /// <param name="end">Where the piece ends, in bytes from the start of the page; <see cref="int.MaxValue"/> for the last one.</param>
    /// <returns>False if the page is not here. A piece that is can still be unknown.</returns>
    internal bool TryFind(long page, int within, out Place place, out int end)
    {
        int slot = (int)page & _slotMask;
        for (int way = 0; way < Ways; way++)
        {
            long position = Volatile.Read(ref _directory[slot + way]);
            if (position >= Volatile.Read(ref _tail) && TryRead(position, page, within, out place, out end) && IsWhole(position))
            {
                return true;
            }
        }

        place = Place.Unknown;
        end = 0;
        return false;
    }

    /// <summary>Appends the page's pieces to <paramref name="pieces"/>, the last one up to <paramref name="pageEnd"/>. For the thread that adds.</summary>
    /// <returns>False if the page is not here.</returns>
    internal bool TryCopy(long page, int pageEnd, List<Piece> pieces)
    {
        int slot = SlotOf(page);
        if (slot < 0)
        {
            return false;
        }

        ulong[] segment = SegmentOf(_directory[slot], out int index);
        int count = CountOf(segment[index]);
        int places = index + 1 + StartWords(count);
        for (int i = 0; i < count; i++)
        {
            int end = i + 1 < count ? StartOf(segment, index, i + 1) : pageEnd;
            pieces.Add(new Piece(StartOf(segment, index, i), end, new Place(segment[places + i])));
        }

        return true;
    }

    /// <summary>Adds a page, or replaces what is here of it. One thread at a time.</summary>
    /// <param name="pieces">From the start of the page on without a gap, not more than <see cref="PiecesMax"/>.</param>
    internal void Put(long page, List<Piece> pieces)
    {
        Debug.Assert(pieces.Count > 0);
        Debug.Assert(pieces.Count <= PiecesMax);
        Debug.Assert(pieces[0].Start == 0);
        int words = 1 + StartWords(pieces.Count) + pieces.Count;
        int slot = SlotOf(page);
        long position = MakeRoom(words);
        Write(position, page, pieces);
        Volatile.Write(ref _directory[slot >= 0 ? slot : SlotToFill(page)], position);
    }

    private static int StartWords(int count) => (count + 1) / 2;

    private static int CountOf(ulong header) => (int)(header & ((1 << CountBits) - 1));

    private static int StartOf(ulong[] segment, int index, int piece) => (int)(segment[index + 1 + (piece >> 1)] >> ((piece & 1) * 32));

    // Everything read before is what the record holds, unless the ring has come round to it meanwhile.
    private bool IsWhole(long position)
    {
        Volatile.ReadBarrier();
        return position >= Volatile.Read(ref _tail);
    }

    // What is read may be changing: every index is checked before it is used, and the caller judges the answer afterwards.
    private bool TryRead(long position, long page, int within, out Place place, out int end)
    {
        ulong[] segment = SegmentOf(position, out int index);
        ulong header = Volatile.Read(ref segment[index]);
        int count = CountOf(header);
        int places = index + 1 + StartWords(count);
        place = Place.Unknown;
        end = 0;
        if ((long)(header >> CountBits) != page || count == 0 || places + count > segment.Length)
        {
            return false;
        }

        // The last piece that does not start behind the byte.
        int low = 0;
        int high = count;
        end = int.MaxValue;
        while (high - low > 1)
        {
            int middle = (low + high) >> 1;
            int start = StartOf(segment, index, middle);
            if (start <= within)
            {
                low = middle;
            }
            else
            {
                high = middle;
                end = start;
            }
        }

        place = new Place(segment[places + low]).After(within - StartOf(segment, index, low));
        return true;
    }

    private ulong[] SegmentOf(long position, out int index)
    {
        index = (int)position & ((1 << _segmentBits) - 1);
        return _segments[(int)((ulong)(position >> _segmentBits) % (uint)_segments.Length)]!;
    }

    // The slot that names a record of this page which is still here; -1 if none does.
    private int SlotOf(long page)
    {
        int first = (int)page & _slotMask;
        for (int slot = first; slot < first + Ways; slot++)
        {
            if (_directory[slot] >= _tail && (long)(SegmentOf(_directory[slot], out int index)[index] >> CountBits) == page)
            {
                return slot;
            }
        }

        return -1;
    }

    // The one whose record is gone, or will go first.
    private int SlotToFill(long page)
    {
        int first = (int)page & _slotMask;
        int best = first;
        for (int slot = first + 1; slot < first + Ways; slot++)
        {
            best = _directory[slot] < _directory[best] ? slot : best;
        }

        return best;
    }

    // Moves the tail past everything that is going to be overwritten, before any of it is.
    private long MakeRoom(int words)
    {
        int segmentWords = 1 << _segmentBits;
        int used = (int)_head & (segmentWords - 1);
        long position = used + words > segmentWords ? _head - used + segmentWords : _head;
        _head = position + words;
        _segments[(int)((ulong)(position >> _segmentBits) % (uint)_segments.Length)] ??= new ulong[segmentWords];
        if (_head - _capacity > _tail)
        {
            Volatile.Write(ref _tail, _head - _capacity);
            Volatile.WriteBarrier();
        }

        return position;
    }

    private void Write(long position, long page, List<Piece> pieces)
    {
        ulong[] segment = SegmentOf(position, out int index);
        int starts = index + 1;
        int places = starts + StartWords(pieces.Count);
        segment[index] = ((ulong)page << CountBits) | (uint)pieces.Count;
        for (int i = 0; i < pieces.Count; i++)
        {
            ulong start = (uint)pieces[i].Start;
            ref ulong word = ref segment[starts + (i >> 1)];
            word = (i & 1) == 0 ? start : word | (start << 32);
            segment[places + i] = pieces[i].Place.Raw;
        }
    }
}
