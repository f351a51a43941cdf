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

    /// <summary>The multiplier.</summary>
    public static double Scale { get; } =
        double.TryParse(Environment.GetEnvironmentVariable("BLOCKMOUNT_TEST_SCALE"), NumberStyles.Float, CultureInfo.InvariantCulture, out double scale) ? scale : 1;

    /// <summary><paramref name="count"/> scaled, at least 1.</summary>
    public static int Scaled(int count) => (int)Math.Clamp(count * Scale, 1, int.MaxValue);

    /// <summary>Fails if a suite did less than it promises; the promise is scaled, and void while a single seed is replayed.</summary>
    public static void AssertCount(long actual, int promised, string what)
    {
        if (Seed is null && actual < (long)(promised * Math.Min(Scale, 1e6)))
        {
            throw new InvalidOperationException($"only {actual} {what}, {promised * Scale:F0} are promised");
        }
    }

    /// <summary>The seeds of a run: the one to replay, or <paramref name="count"/> (scaled) from <paramref name="first"/> on.</summary>
    public static IEnumerable<int> Seeds(int first, int count) => Seed is { } only ? [only] : Enumerable.Range(first, Scaled(count));

    /// <summary>The command that repeats a failure.</summary>
    public static string Replay(int seed, string testName) =>
        $"BLOCKMOUNT_SEED={seed} dotnet test tests/BlockMount.Tests --filter FullyQualifiedName~{testName}";

    /// <summary>The command that repeats an interleaving and prints its steps.</summary>
    public static string ReplaySchedule(string schedule) =>
        $"BLOCKMOUNT_SCHEDULE='{schedule}' dotnet test tests/BlockMount.Tests --filter FullyQualifiedName~Schedule_NamedByTheEnvironment";
}
