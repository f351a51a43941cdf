namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// How far a check follows tables that lie over each other or in holes. Tables of sound images never overlap, and the file holds them; those of a hostile
/// image can lie in one place by the ten thousands, each a little different, so that each would be walked and counted anew, or fill terabytes of a hole.
/// Tables at the same place with the same length are one table and cost nothing here (<see cref="VisitedTables"/>).
/// </summary>
internal static class TableOverlaps
{
    /// <summary>Bytes that tables may have in common with others, all taken together: the largest L1 table that the format allows.</summary>
    internal const long OverlapBytesMax = 32 << 20;

    /// <summary>Bytes that tables may have beyond those that the file holds: a table of zeros may have become a hole.</summary>
    internal const long HoleBytesMax = 1 << 30;

    private static readonly HashSet<(long, long)> s_none = [];

    /// <summary>
    /// The tables that are not to be read. Without them, all together have no more bytes than the file holds and <see cref="HoleBytesMax"/>, and those that
    /// they share count <see cref="OverlapBytesMax"/> more at most.
    /// </summary>
    /// <param name="tables">Host offset and length of each table, in any order and any number of times.</param>
    /// <param name="heldBytes">Bytes that the file occupies.</param>
    /// <param name="exempt">A table that is read in any case; null for none.</param>
    internal static IReadOnlySet<(long Offset, long Bytes)> FindUnreadable(
        IReadOnlyCollection<(long Offset, long Bytes)> tables, long heldBytes, (long Offset, long Bytes)? exempt = null)
    {
        // The common case: all of them together are no more than that.
        if (tables.Count < 2 || tables.Sum(table => table.Bytes) <= OverlapBytesMax)
        {
            return s_none;
        }

        HashSet<(long, long)> unreadable = [];
        long covered = 0;
        long overlapLeft = OverlapBytesMax;
        long left = Math.Min(heldBytes, long.MaxValue - HoleBytesMax) + HoleBytesMax;
        foreach ((long offset, long bytes) in tables.Distinct().Order())
        {
            // What was taken before begins no later, so that this is all that the table has in common with it.
            long overlap = Math.Clamp(covered - offset, 0, bytes);
            if ((overlap > overlapLeft || bytes - overlap > left) && (offset, bytes) != exempt)
            {
                _ = unreadable.Add((offset, bytes));
                continue;
            }

            overlapLeft -= Math.Min(overlap, overlapLeft);
            left -= Math.Min(bytes - overlap, left);
            covered = Math.Max(covered, offset + bytes);
        }

        return unreadable;
    }
}
