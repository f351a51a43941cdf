using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>
/// Gives out clusters behind the end of the file, whose content nobody can miss. Their refcounts are 1 before they are used (I3), where the image has a
/// refcount block for them; where it has none they are counted when the refcount structure is made anew.
/// </summary>
internal sealed class FreshClusters
{
    private const int SectorSize = 512;

    private readonly ImageState _state;
    private long _next;

    internal FreshClusters(ImageState state)
    {
        _state = state;
        _next = state.References.FileClusters << state.Layout.ClusterBits;
    }

    /// <summary>Host offset of <paramref name="count"/> clusters in a row. The caller writes them to their end.</summary>
    internal async ValueTask<long> AllocateAsync(long count)
    {
        long offset = _next;
        _next += count << _state.Layout.ClusterBits;
        for (long cluster = offset >> _state.Layout.ClusterBits; cluster < _next >> _state.Layout.ClusterBits; cluster++)
        {
            await CountAsync(cluster);
        }

        return offset;
    }

    private async ValueTask CountAsync(long cluster)
    {
        CheckedLayout layout = _state.Layout;
        long block = cluster / layout.RefcountBlockEntries;
        ulong entry = await _state.Stored.TableEntryAsync(block);
        long blockOffset = (long)(entry & StoredRefcounts.OffsetMask & long.MaxValue);
        bool usable = blockOffset != 0 && layout.IsAligned(blockOffset) && !layout.IsOutside(blockOffset, layout.ClusterSize)
            && !ClusterReferences.IsContested(_state.UsesOf(blockOffset, layout.ClusterSize));
        if (!usable)
        {
            return;
        }

        long index = cluster - (block * layout.RefcountBlockEntries);
        long sector = blockOffset + (((index << layout.RefcountOrder) / 8) & ~(SectorSize - 1L));
        byte[] bytes = new byte[SectorSize];
        await _state.File.ReadAsync(sector, bytes);
        long perSector = (SectorSize * 8L) >> layout.RefcountOrder;
        RefcountEntry.Write(bytes, (int)(index % perSector), layout.RefcountOrder, 1);
        await _state.File.WriteAsync(sector, bytes);
    }
}
