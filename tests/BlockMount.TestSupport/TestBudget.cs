using System.Globalization;

namespace BlockMount.TestSupport;

/// <summary>
/// How much a randomised test does and with which seeds. BLOCKMOUNT_TEST_SCALE multiplies the amount (1 by default; 0.1 for a quick look, 100 for a
/// night); BLOCKMOUNT_SEED replays one seed, BLOCKMOUNT_SCHEDULE one interleaving.
/// </summary>
public static class TestBudget
{
    /// <summary>The seed to replay, or null.</summary>
    public static int? Seed { get; } =
        int.TryParse(Environment.GetEnvironmentVariable("BLOCKMOUNT_SEED"), NumberStyles.Integer, CultureInfo.InvariantCulture, out int seed) ? seed : null;

    /// <summary>The interleaving to replay, as the simulation named it, or null.</summary>
    public static string? Schedule { get; } = Environment.GetEnvironmentVariable("BLOCKMOUNT_SCHEDULE") is { Length: > 0 } name ? name : null;

    private static readonly Lock s_countGate = new();
    private static readonly int s_offset =
        int.TryParse(Environment.GetEnvironmentVariable("BLOCKMOUNT_SEED_OFFSET"), NumberStyles.Integer, CultureInfo.InvariantCulture, out int offset) ? offset : 0;

    /// <summary>The multiplier.</summary>
    public static double Scale { get; } =
        double.TryParse(Environment.GetEnvironmentVariable("BLOCKMOUNT_TEST_SCALE"), NumberStyles.Float, CultureInfo.InvariantCulture, out double scale) ? scale : 1;

    /// <summary><paramref name="count"/> scaled, at least 1.</summary>
    public static int Scaled(int count) => (int)Math.Clamp(count * Scale, 1, int.MaxValue);

    /// <summary>
    /// Tells how much a suite did: in the file that BLOCKMOUNT_COUNTS names, a line for each. Fails if that is less than <paramref name="promised"/>, which is
    /// scaled, and void while a single seed is replayed.
    /// </summary>
    /// <returns>A line for the test's output.</returns>
    public static string Count(long actual, string what, int promised = 0)
    {
        string line = string.Create(CultureInfo.InvariantCulture, $"{actual} {what}");
        if (Environment.GetEnvironmentVariable("BLOCKMOUNT_COUNTS") is { Length: > 0 } path)
        {
            // A short line is appended in one piece: suites run at the same time.
            lock (s_countGate)
            {
                File.AppendAllText(path, line + "\n");
            }
        }

        return Seed is null && actual < (long)(promised * Math.Min(Scale, 1e6))
            ? throw new InvalidOperationException($"only {line}, {promised * Scale:F0} are promised")
            : line;
    }

    /// <summary>A random generator that depends on both numbers, and on nothing else (<see cref="HashCode"/> differs from process to process).</summary>
    public static Random RandomOf(int seed, long part) => new(unchecked((int)((seed * 1_640_531_527L) + (part * 7_046_029_254_386_353_131L) >> 17)));

    /// <summary>
    /// The seeds of a run: the one to replay, or <paramref name="count"/> (scaled) from <paramref name="first"/> on. BLOCKMOUNT_SEED_OFFSET shifts them: so a long
    /// run gets seeds that were never used.
    /// </summary>
    public static IEnumerable<int> Seeds(int first, int count) => Seed is { } only ? [only] : Enumerable.Range(first + s_offset, Scaled(count));

    /// <summary>The command that repeats a failure.</summary>
    public static string Replay(int seed, string testName) =>
        $"BLOCKMOUNT_SEED={seed} dotnet test tests/BlockMount.Tests --filter FullyQualifiedName~{testName}";

    /// <summary>The command that repeats an interleaving and prints its steps.</summary>
    public static string ReplaySchedule(string schedule) =>
        $"BLOCKMOUNT_SCHEDULE='{schedule}' dotnet test tests/BlockMount.Tests --filter FullyQualifiedName~Schedule_NamedByTheEnvironment";
}
