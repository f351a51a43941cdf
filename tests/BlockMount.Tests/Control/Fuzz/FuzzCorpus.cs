using BlockMount.TestSupport;

namespace BlockMount.Tests.Control.Fuzz;

/// <summary>
/// Texts that parsers are fed with, one a line in tests/BlockMount.Tests/Control/Fuzz/corpus: replayed as they are in every run, and changed at random. What was found once is added there.
/// </summary>
internal static class FuzzCorpus
{
    /// <summary>Whole messages.</summary>
    public static string[] Messages { get; } = Load("messages.txt");

    /// <summary>Options as key=value and JSON.</summary>
    public static string[] Options { get; } = Load("options.txt");

    /// <summary>Lines of the human monitor.</summary>
    public static string[] Lines { get; } = Load("lines.txt");

    /// <summary>All of them: each parser gets those of the others, too.</summary>
    public static string[] All { get; } = [.. Messages, .. Options, .. Lines];

    // The first line says what the file is.
    private static string[] Load(string name) =>
        [.. File.ReadLines(Path.Combine(SourceTree.Root, "tests/BlockMount.Tests/Control/Fuzz/corpus", name)).Skip(1).Distinct()];
}
