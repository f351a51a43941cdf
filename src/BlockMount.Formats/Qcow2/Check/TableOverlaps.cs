namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// How far a check follows tables that lie over each other. Tables of sound images never overlap; those of a hostile image can, tens of thousands of them
/// in one place, each a little different, so that each would be walked and counted anew. Tables at the same place with the same length are one table
/// and cost nothing here (<see cref="VisitedTables"/>).
/// </summary>
internal static class TableOverlaps
{
    /// <summary>Bytes that tables may have in common with others, all taken together: the largest L1 table that the format allows.</summary>
    internal const long OverlapBytesMax = 32 << 20;

    private static readonly HashSet<(long, long)> s_none = [];

    /// <summary>
    /// The tables that are not to be read, because they would use up more than <see cref="OverlapBytesMax"/>. With them left out, all tables together have at
    /// most that much more than the bytes of the file that they cover.
    /// </summary>
    /// <param name="tables">Host offset and length of each table, in any order and any number of times.</param>
    /// <param name="exempt">A table that is read in any case; null for none.</param>
    internal static IReadOnlySet<(long Offset, long Bytes)> FindUnreadable(
        IReadOnlyCollection<(long Offset, long Bytes)> tables, (long Offset, long Bytes)? exempt = null)
    {
        // The common case: all of them together are no more than that.
        if (tables.Count < 2 || tables.Sum(table => table.Bytes) <= OverlapBytesMax)
        {
            return s_none;
        }

        HashSet<(long, long)> unreadable = [];
        long covered = 0;
        long left = OverlapBytesMax;
        foreach ((long offset, long bytes) in tables.Distinct().Order())
        {
            // What was taken before begins no later, so that this is all that the table has in common with it.
            long overlap = Math.Clamp(covered - offset, 0, bytes);
            if (overlap > left && (offset, bytes) != exempt)
            {
                _ = unreadable.Add((offset, bytes));
                continue;
            }

            left -= Math.Min(overlap, left);
            covered = Math.Max(covered, offset + bytes);
        }

        return unreadable;
    }
}
