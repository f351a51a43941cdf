namespace BlockMount.TestSupport.Crash;

/// <summary>The states that power cuts at every change and flush of a log may leave, for judges of their own.</summary>
public static class CrashStates
{
    private const int SystematicMax = 14;

    /// <summary>
    /// All, none, each pending change lost alone, each one kept alone (as far as that is at most 14), then <paramref name="randomPerCut"/> subsets with torn
    /// changes, at each cut. An image is valid until the next one is drawn.
    /// </summary>
    public static IEnumerable<(CrashImage Image, string Description)> Of(StorageLog log, byte[] initial, int seed, int randomPerCut = 4)
    {
        CrashImages images = new(log, initial);
        foreach (long cut in CrashImages.Cuts(log))
        {
            images.AdvanceTo(cut);
            int systematic = images.PendingCount == 0 ? 1 : Math.Min(2 + (2 * images.PendingCount), SystematicMax);
            Random random = TestBudget.RandomOf(seed, cut);
            for (int i = 0; i < systematic + (images.PendingCount == 0 ? 0 : randomPerCut); i++)
            {
                CrashImage image = images.Draw(i < systematic ? i : int.MaxValue, random);
                yield return (image, $"cut {cut}, state {i}; not durable: {images.DescribePending()}");
            }
        }
    }
}
