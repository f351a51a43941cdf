namespace BlockMount.Daemon.Cli;

/// <summary>Finds what a mistyped word may have meant.</summary>
internal static class NearMatch
{
    // Two slips of the finger; more would suggest unrelated words.
    private const int DistanceMax = 2;

    /// <summary>A hint naming the words close to <paramref name="word"/>, or all of them when none is close.</summary>
    public static string Hint(string word, IReadOnlyCollection<string> known)
    {
        string[] near = [.. known
            .Select(name => (Name: name, Distance: Distance(word, name)))
            .Where(match => match.Distance <= DistanceMax || (word.Length > 2 && match.Name.StartsWith(word, StringComparison.Ordinal)))
            .OrderBy(match => match.Distance)
            .Take(3)
            .Select(match => $"'{match.Name}'")];
        return near.Length > 0 ? $"Did you mean {string.Join(" or ", near)}?" : $"Known: {string.Join(", ", known)}.";
    }

    /// <summary>Letters to insert, remove, replace or swap with their neighbour to turn one word into the other.</summary>
    public static int Distance(string a, string b)
    {
        int[,] cost = new int[a.Length + 1, b.Length + 1];
        for (int i = 0; i <= a.Length; i++)
        {
            for (int j = 0; j <= b.Length; j++)
            {
                cost[i, j] = (i, j) switch
                {
                    (0, _) => j,
                    (_, 0) => i,
                    _ => Step(cost, a, b, i, j),
                };
            }
        }

        return cost[a.Length, b.Length];
    }

    private static int Step(int[,] cost, string a, string b, int i, int j)
    {
        int best = Math.Min(cost[i - 1, j], cost[i, j - 1]) + 1;
        best = Math.Min(best, cost[i - 1, j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1));
        bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
        return swapped ? Math.Min(best, cost[i - 2, j - 2] + 1) : best;
    }
}
