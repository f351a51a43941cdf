namespace BlockMount.Block.Graph;

/// <summary>
/// Divides one amount of memory among the images of a chain. Each image gets what it needs for its whole disk, but first no more than an equal share;
/// what the small ones leave goes to the others in order, the active layer first.
/// </summary>
internal static class CacheBudget
{
    /// <param name="needed">Bytes that each image can use, the active layer first.</param>
    /// <param name="total">Bytes for all of them.</param>
    /// <returns>Bytes for each image; together not more than <paramref name="total"/>.</returns>
    internal static long[] Share(IReadOnlyList<long> needed, long total)
    {
        if (needed.Count == 0)
        {
            return [];
        }

        long[] shares = [.. needed.Select(bytes => Math.Min(bytes, total / needed.Count))];
        long left = total - shares.Sum();
        for (int i = 0; i < shares.Length; i++)
        {
            long more = Math.Min(needed[i] - shares[i], left);
            shares[i] += more;
            left -= more;
        }

        return shares;
    }
}
