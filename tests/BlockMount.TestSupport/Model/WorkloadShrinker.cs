using System.Diagnostics;

namespace BlockMount.TestSupport.Model;

/// <summary>Makes a failing workload shorter: drops ever smaller pieces as long as it still fails.</summary>
public static class WorkloadShrinker
{
    /// <summary>
    /// A workload that still fails, as short as could be found within <paramref name="patience"/>.
    /// </summary>
    /// <param name="fails">Runs a workload and tells whether it fails.</param>
    public static async ValueTask<IReadOnlyList<GuestOperation>> ShrinkAsync(
        IReadOnlyList<GuestOperation> operations, Func<IReadOnlyList<GuestOperation>, ValueTask<bool>> fails, TimeSpan patience)
    {
        long started = Stopwatch.GetTimestamp();
        List<GuestOperation> current = [.. operations];
        for (int piece = Math.Max(current.Count / 2, 1); piece > 0; piece /= 2)
        {
            bool dropped = true;
            while (dropped)
            {
                dropped = false;
                for (int start = 0; start < current.Count && Stopwatch.GetElapsedTime(started) < patience;)
                {
                    List<GuestOperation> shorter = [.. current.Take(start), .. current.Skip(start + piece)];
                    if (await fails(shorter))
                    {
                        current = shorter;
                        dropped = true;
                    }
                    else
                    {
                        start += piece;
                    }
                }
            }
        }

        return current;
    }
}
