namespace BlockMount.Control.Schema;

/// <summary>One declaration of a <see cref="SchemaText"/>, cut into its parts; names of types are not looked up yet. Immutable.</summary>
internal sealed class SchemaDeclaration
{
    private static readonly string[] s_keywords = ["base", "args", "returns", "features", "when"];

    private readonly List<string> _lines;

    private SchemaDeclaration(string head, List<string> lines)
    {
        _lines = lines;
        string[] words = head.Replace(":", " ", StringComparison.Ordinal).Split(' ', StringSplitOptions.RemoveEmptyEntries);
        if (words.Length < 2)
        {
            throw new FormatException($"'{head}': a declaration has a keyword and a name");
        }

        (Keyword, Name) = (words[0], words[1]);
        Words = [.. words[2..].Where(word => word != "on" || Keyword == "enum")];
        Members = [.. lines.Where(IsMember).Select(Member)];
        Help = string.Join(' ', lines.Where(line => line.StartsWith("| ", StringComparison.Ordinal)).Select(line => line[2..]));
    }

    /// <summary>What is declared.</summary>
    public string Keyword { get; }

    /// <summary>Its name.</summary>
    public string Name { get; }

    /// <summary>The rest of the first line.</summary>
    public IReadOnlyList<string> Words { get; }

    /// <summary>Lines that describe members.</summary>
    public IReadOnlyList<(string Name, string Type, bool Optional, IReadOnlyList<string> Features, string Help)> Members { get; }

    /// <summary>Lines that begin with a bar, as one text.</summary>
    public string Help { get; }

    /// <summary>The declarations of a text.</summary>
    /// <exception cref="FormatException">A line is neither a declaration nor part of one.</exception>
    public static IEnumerable<SchemaDeclaration> Split(string text)
    {
        string? head = null;
        List<string> lines = [];
        foreach (string line in text.Split('\n').Select(line => line.TrimEnd()).Where(line => line.Length > 0))
        {
            if (line[0] == ' ')
            {
                lines.Add(line.Trim());
                continue;
            }

            if (head is not null)
            {
                yield return new SchemaDeclaration(head, lines);
            }

            head = line;
            lines = [];
        }

        if (head is not null)
        {
            yield return new SchemaDeclaration(head, lines);
        }
    }

    /// <summary>What follows a keyword on the only line that begins with it; null if there is none.</summary>
    public string? Line(string keyword) => Lines(keyword).SingleOrDefault();

    /// <summary>What follows a keyword, on each line that begins with it.</summary>
    public IEnumerable<string> Lines(string keyword) =>
        _lines.Where(line => line.StartsWith(keyword + " ", StringComparison.Ordinal)).Select(line => line[(keyword.Length + 1)..]);

    /// <summary>An error that names the declaration.</summary>
    public FormatException Wrong(string what) => new($"{Keyword} {Name}: {what}");

    private static bool IsMember(string line) => line[0] != '|' && !s_keywords.Any(word => line.StartsWith(word + " ", StringComparison.Ordinal));

    private (string Name, string Type, bool Optional, IReadOnlyList<string> Features, string Help) Member(string line)
    {
        string[] parts = line.Split(" | ", 2);
        string[] words = parts[0].Split(' ', 3);
        if (words.Length < 2 || !words[0].EndsWith(':'))
        {
            throw Wrong($"'{line}' is no member");
        }

        string[] features = words.Length == 3 ? words[2].Trim('{', '}').Split(' ') : [];
        return (words[0].Trim('*', ':'), words[1], words[0][0] == '*', features, parts.Length == 2 ? parts[1] : "");
    }
}
