using System.Buffers.Binary;
using BlockMount.Formats.Qcow2.Check;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>
/// Looks for L1 tables when the offset that should lead to one cannot be right: clusters in a row that the image holds for nobody, and that read as an L1
/// table of the right length with sound L2 tables. Only a single find counts. The image is searched once, whatever the number of tables that are missing.
/// Single-threaded; valid as long as the <see cref="ImageState"/>.
/// </summary>
internal sealed class LostL1Tables
{
    /// <summary>Pieces looked at for all lengths that are searched for, taken together.</summary>
    internal const long StepsMax = 1 << 26;

    private const int SectorSize = 512;
    private const int NoneUsed = int.MaxValue;

    private readonly ImageState _state;
    private readonly CheckedLayout _layout;
    private readonly EntryRepair _entries;
    private readonly CheckedL2Table _l2;
    private readonly byte[] _cluster;

    // Whether what an entry names is a sound L2 table; what has been searched for, with what was found.
    private readonly Dictionary<long, bool> _soundTables = [];
    private readonly Dictionary<long, long?> _found = [];

    // Ascending; null before the search.
    private List<Piece>? _pieces;

    internal LostL1Tables(ImageState state)
    {
        _state = state;
        _layout = state.Layout;
        _entries = new EntryRepair(state);
        _l2 = new CheckedL2Table(state.File, _layout, state.Holes);
        _cluster = new byte[_layout.ClusterSize];
    }

    private int EntriesInCluster => _layout.ClusterSize / 8;

    /// <summary>A cluster that could belong to a table, or a run of clusters of zeros.</summary>
    /// <param name="Valid">Entries of the cluster that could be right, from the first one on.</param>
    /// <param name="Used">Index of the first of these that is not 0; <see cref="NoneUsed"/> if there is none.</param>
    private readonly record struct Piece(long Cluster, long Clusters, int Valid, int Used)
    {
        internal long End => Cluster + Clusters;
    }

    /// <summary>True if tables of so many different lengths are missing that a repair is not willing to search for them.</summary>
    internal async ValueTask<bool> IsTooMuchAsync(long lengths)
    {
        _pieces ??= await SearchAsync();
        return lengths * _pieces.Count > StepsMax;
    }

    /// <summary>Host offset of the table of that many entries, at least 1; null if none or several were found.</summary>
    internal async ValueTask<long?> FindAsync(long entries)
    {
        _pieces ??= await SearchAsync();
        if (!_found.TryGetValue(entries, out long? found))
        {
            found = FindOnly(entries);
            _found.Add(entries, found);
        }

        return found;
    }

    private long? FindOnly(long entries)
    {
        long clusters = (entries + EntriesInCluster - 1) / EntriesInCluster;
        long? found = null;
        for (int i = 0; i < _pieces!.Count; i++)
        {
            // A table does not consist of zeros alone, so it begins at the end of them.
            Piece piece = _pieces[i];
            long first = IsZeros(piece) ? Math.Max(piece.Cluster, piece.End - clusters + 1) : piece.Cluster;
            for (long cluster = first; cluster < piece.End; cluster++)
            {
                if (!IsTable(i, cluster, entries))
                {
                    continue;
                }

                if (found is not null)
                {
                    return null;
                }

                found = cluster << _layout.ClusterBits;
            }
        }

        return found;
    }

    // True if a table of that many entries can begin at the cluster, which is one of the piece with that index.
    private bool IsTable(int index, long cluster, long entries)
    {
        bool any = false;
        for (; index < _pieces!.Count && _pieces[index].Cluster <= cluster; index++)
        {
            Piece piece = _pieces[index];
            long here = Math.Min(entries, (piece.End - cluster) * EntriesInCluster);
            if (piece.Clusters == 1 && piece.Valid < here)
            {
                return false;
            }

            any |= piece.Used < here;
            entries -= here;
            if (entries == 0)
            {
                return any;
            }

            cluster = piece.End;
        }

        return false;
    }

    private async ValueTask<List<Piece>> SearchAsync()
    {
        List<Piece> pieces = [];
        long perBlock = _layout.RefcountBlockEntries;
        for (long block = await _state.Stored.NextBlockAsync(0); block < _state.Stored.TableEntries; block = await _state.Stored.NextBlockAsync(block + 1))
        {
            long end = Math.Min((block + 1) * perBlock, _layout.FileClusters);
            for (long cluster = Math.Max(1, block * perBlock); cluster < end; cluster++)
            {
                if (await IsHeldForNobodyAsync(cluster))
                {
                    Append(pieces, await ReadPieceAsync(cluster));
                }
            }
        }

        return pieces;
    }

    private void Append(List<Piece> pieces, Piece piece)
    {
        if (piece.Valid == 0)
        {
            return;
        }

        Piece? last = pieces.Count > 0 ? pieces[^1] : null;
        if (IsZeros(piece) && last is { } zeros && IsZeros(zeros) && zeros.End == piece.Cluster)
        {
            pieces[^1] = zeros with { Clusters = zeros.Clusters + 1 };
        }
        else
        {
            pieces.Add(piece);
        }
    }

    private bool IsZeros(Piece piece) => piece.Used == NoneUsed && piece.Valid == EntriesInCluster;

    private async ValueTask<bool> IsHeldForNobodyAsync(long cluster) =>
        _state.References.Holds(cluster) && _state.References.Count(cluster) == 0 && await _state.Stored.GetAsync(cluster) != 0;

    private async ValueTask<Piece> ReadPieceAsync(long cluster)
    {
        long offset = cluster << _layout.ClusterBits;
        if (await _state.Holes.HoleEndAsync(offset) >= offset + _cluster.Length)
        {
            return new Piece(cluster, 1, EntriesInCluster, NoneUsed);
        }

        // Data of the guest hardly ever gets past the first sector.
        await _state.File.ReadAsync(offset, _cluster.AsMemory(0, SectorSize));
        (int valid, int used) = await CountValidAsync(0, SectorSize / 8, NoneUsed);
        if (valid == SectorSize / 8 && valid < EntriesInCluster)
        {
            await _state.File.ReadAsync(offset + SectorSize, _cluster.AsMemory(SectorSize));
            (valid, used) = await CountValidAsync(valid, EntriesInCluster, used);
        }

        return new Piece(cluster, 1, valid, used);
    }

    private async ValueTask<(int Valid, int Used)> CountValidAsync(int first, int end, int used)
    {
        for (int i = first; i < end; i++)
        {
            CheckedL1Entry entry = new(BinaryPrimitives.ReadUInt64BigEndian(_cluster.AsSpan(i * 8)));
            if (entry.Raw == 0)
            {
                continue;
            }

            if (!await IsEntryAsync(entry))
            {
                return (i, used);
            }

            used = Math.Min(used, i);
        }

        return (end, used);
    }

    private async ValueTask<bool> IsEntryAsync(CheckedL1Entry entry)
    {
        long offset = entry.TableOffset;
        if (entry.HasReservedBits || offset == 0 || !_layout.IsAligned(offset) || _layout.IsOutside(offset, _layout.ClusterSize)
            || await _state.Stored.GetAsync(offset >> _layout.ClusterBits) == 0)
        {
            return false;
        }

        if (!_soundTables.TryGetValue(offset, out bool isSound))
        {
            isSound = await IsSoundTableAsync(offset);
            if (_soundTables.Count < VisitedTables.TablesMax)
            {
                _soundTables.Add(offset, isSound);
            }
        }

        return isSound;
    }

    private async ValueTask<bool> IsSoundTableAsync(long offset)
    {
        await _l2.LoadAsync(offset);
        for (int i = _l2.NextUsed(0); i < _layout.L2Entries; i = _l2.NextUsed(i + 1))
        {
            if (_entries.Judge(_l2[i], (long)i << _layout.ClusterBits, out _) != EntryFate.Kept)
            {
                return false;
            }
        }

        return true;
    }
}
