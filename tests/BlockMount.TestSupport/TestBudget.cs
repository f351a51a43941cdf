using System.Globalization;

namespace BlockMount.TestSupport;

/// <summary>
/// How much a randomised test does and with which seeds. BLOCKMOUNT_TEST_SCALE multiplies the amount (1 by default; 0.1 for a quick look, 100 for a
/// night); BLOCKMOUNT_SEED replays one seed.
/// </summary>
public static class TestBudget
{
    /// <summary>The seed to replay, or null.</summary>
    public static int? Seed { get; } =
        int.TryParse(Environment.GetEnvironmentVariable("BLOCKMOUNT_SEED"), NumberStyles.Integer, CultureInfo.InvariantCulture, out int seed) ? seed : null;

    /// <summary>The multiplier.</summary>
    public static double Scale { get; } =
        double.TryParse(Environment.GetEnvironmentVariable("BLOCKMOUNT_TEST_SCALE"), NumberStyles.Float, CultureInfo.InvariantCulture, out double scale) ? scale : 1;

    /// <summary><paramref name="count"/> scaled, at least 1.</summary>
    public static int Scaled(int count) => (int)Math.Clamp(count * Scale, 1, int.MaxValue);

    /// <summary>The seeds of a run: the one to replay, or <paramref name="count"/> (scaled) from <paramref name="first"/> on.</summary>
    public static IEnumerable<int> Seeds(int first, int count) => Seed is { } only ? [only] : Enumerable.Range(first, Scaled(count));

    /// <summary>The command that repeats a failure.</summary>
    public static string Replay(int seed, string testName) =>
        $"BLOCKMOUNT_SEED={seed} dotnet test tests/BlockMount.Tests --filter FullyQualifiedName~{testName}";
}
