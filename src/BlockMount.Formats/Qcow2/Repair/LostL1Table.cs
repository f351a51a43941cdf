using System.Buffers.Binary;
using BlockMount.Formats.Qcow2.Check;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>
/// Looks for an L1 table when the offset that should lead to it cannot be right: clusters in a row that the image holds for nobody, and that read as an L1
/// table of the right length with sound L2 tables. Only a single find counts.
/// </summary>
internal static class LostL1Table
{
    /// <summary>Host offset of the table of that many entries; null if none or several were found.</summary>
    internal static async ValueTask<long?> FindAsync(ImageState state, long entries)
    {
        CheckedLayout layout = state.Layout;
        long bytes = entries * 8;
        long? found = null;
        long clusters = (bytes + layout.ClusterSize - 1) >> layout.ClusterBits;
        for (long cluster = 1; cluster + clusters <= layout.FileClusters; cluster++)
        {
            if (await IsHeldForNobodyAsync(state, cluster) && await IsTableAsync(state, cluster << layout.ClusterBits, bytes))
            {
                if (found is not null)
                {
                    return null;
                }

                found = cluster << layout.ClusterBits;
            }
        }

        return found;
    }

    private static async ValueTask<bool> IsHeldForNobodyAsync(ImageState state, long cluster) =>
        state.References.Holds(cluster) && state.References.Count(cluster) == 0 && await state.Stored.GetAsync(cluster) != 0;

    private static async ValueTask<bool> IsTableAsync(ImageState state, long offset, long bytes)
    {
        CheckedLayout layout = state.Layout;
        byte[] sector = new byte[512];
        bool any = false;
        for (long position = 0; position < bytes; position += sector.Length)
        {
            if (!await IsHeldForNobodyAsync(state, (offset + position) >> layout.ClusterBits))
            {
                return false;
            }

            await state.File.ReadAsync(offset + position, sector);
            for (int i = 0; i < sector.Length && position + i < bytes; i += 8)
            {
                CheckedL1Entry entry = new(BinaryPrimitives.ReadUInt64BigEndian(sector.AsSpan(i)));
                if (entry.Raw != 0 && !await IsEntryAsync(state, entry))
                {
                    return false;
                }

                any |= entry.Raw != 0;
            }
        }

        return any;
    }

    private static async ValueTask<bool> IsEntryAsync(ImageState state, CheckedL1Entry entry)
    {
        CheckedLayout layout = state.Layout;
        long offset = entry.TableOffset;
        if (entry.HasReservedBits || offset == 0 || !layout.IsAligned(offset) || layout.IsOutside(offset, layout.ClusterSize)
            || await state.Stored.GetAsync(offset >> layout.ClusterBits) == 0)
        {
            return false;
        }

        CheckedL2Table table = new(state.File, layout);
        await table.LoadAsync(offset);
        EntryRepair entries = new(state);
        for (int i = table.NextUsed(0); i < layout.L2Entries; i = table.NextUsed(i + 1))
        {
            if (entries.Judge(table[i], (long)i << layout.ClusterBits, out _) != EntryFate.Kept)
            {
                return false;
            }
        }

        return true;
    }
}
