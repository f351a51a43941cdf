using System.Buffers.Binary;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>
/// Makes the COPIED flags of the active tables exact: set where the counted references are exactly one (qcow2 specification, bit 63 of L1 and L2 entries).
/// Clearing protects shared clusters and comes before the refcounts, setting allows writes in place and comes after them.
/// </summary>
internal sealed class CopiedFlags
{
    // A write that is torn leaves each entry as it was or as it will be, and each is right by itself.
    private const int ChunkBytes = 64 << 10;

    private readonly ImageState _state;
    private readonly CheckedLayout _layout;
    private readonly CheckedL2Table _l2;

    // L2 tables that were visited in this run: a second entry that names one finds nothing to do.
    private readonly HashSet<long> _corrected = [];

    internal CopiedFlags(ImageState state)
    {
        _state = state;
        _layout = state.Layout;
        _l2 = new CheckedL2Table(state.File, _layout, state.Holes);
    }

    /// <summary>Clears flags that must not be there, or with <paramref name="set"/> sets those that are missing.</summary>
    internal async ValueTask RunAsync(bool set)
    {
        _corrected.Clear();
        _state.Holes.Forget();
        GuestTableRoot root = _state.Walk.Roots[0];
        byte[] chunk = new byte[Math.Min(root.Bytes, ChunkBytes)];
        long step;
        for (long start = 0; start < root.Bytes; start += step)
        {
            step = await _state.Holes.SkippableAsync(root.Offset + start, root.Bytes - start, ChunkBytes);
            if (step == 0)
            {
                step = Math.Min(root.Bytes - start, ChunkBytes);
                await CorrectChunkAsync(root.Offset + start, chunk.AsMemory(0, (int)step), set);
            }
        }

        await _state.File.FlushAsync();
    }

    private async ValueTask CorrectChunkAsync(long place, Memory<byte> chunk, bool set)
    {
        await _state.File.ReadAsync(place, chunk);
        bool changed = false;
        for (int i = 0; i < chunk.Length; i += 8)
        {
            CheckedL1Entry entry = new(BinaryPrimitives.ReadUInt64BigEndian(chunk.Span[i..]));
            if (entry.TableOffset != 0)
            {
                await CorrectTableAsync(entry.TableOffset, set);
                bool right = IsSingle(entry.TableOffset);
                changed |= right == set && entry.IsCopied != right;
                BinaryPrimitives.WriteUInt64BigEndian(chunk.Span[i..], right == set ? entry.WithCopied(right).Raw : entry.Raw);
            }
        }

        if (changed)
        {
            await _state.File.WriteAsync(place, chunk);
        }
    }

    private async ValueTask CorrectTableAsync(long offset, bool set)
    {
        if (_corrected.Count < VisitedTables.TablesMax && !_corrected.Add(offset))
        {
            return;
        }

        await _l2.LoadAsync(offset);
        bool changed = false;
        for (int i = _l2.NextUsed(0); i < _layout.L2Entries; i = _l2.NextUsed(i + 1))
        {
            CheckedL2Entry entry = _l2[i];
            if (entry.Kind(_layout) is not (ClusterKind.Normal or ClusterKind.ZeroAllocated))
            {
                continue;
            }

            bool right = _layout.HasDataFile || IsSingle(entry.HostOffset);
            if (right == set && entry.IsCopied != right)
            {
                _l2[i] = entry.WithCopied(right);
                changed = true;
            }
        }

        if (changed)
        {
            await _l2.StoreAsync(offset);
        }
    }

    private bool IsSingle(long offset)
    {
        long cluster = offset >> _layout.ClusterBits;
        return _state.References.Holds(cluster) && _state.References.Count(cluster) == 1;
    }
}
