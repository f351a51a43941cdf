using System.Globalization;
using System.Text;
using BlockMount.Control.Json;

namespace BlockMount.Control.Client;

/// <summary>
/// The short form of a command: a name and key=value words, as qmp-shell has it. A value is a number, true, false, null, JSON in brackets, or else
/// a string; a.b=v makes an object within an object. White space inside quotes or brackets belongs to its word.
/// </summary>
public static class ShellLine
{
    /// <summary>The message that a line stands for; a line that begins with { is the message itself.</summary>
    /// <exception cref="FormatException">The line means nothing; the message says why.</exception>
    public static JsonObject Parse(string line) => line.TrimStart().StartsWith('{')
        ? JsonReader.Parse(line) as JsonObject ?? throw new FormatException("a message is an object")
        : Parse(Words(line));

    /// <summary>The message that these words stand for.</summary>
    /// <exception cref="FormatException">They mean nothing; the message says why.</exception>
    public static JsonObject Parse(IReadOnlyList<string> words)
    {
        if (words.Count == 0)
        {
            throw new FormatException("no command");
        }

        JsonObject message = new() { ["execute"] = words[0] };
        JsonObject arguments = new();
        foreach (string word in words.Skip(1))
        {
            int sign = word.IndexOf('=', StringComparison.Ordinal);
            if (sign <= 0)
            {
                throw new FormatException($"'{word}' is not of the form key=value");
            }

            Set(arguments, word[..sign].Split('.'), Value(word[(sign + 1)..]));
        }

        if (arguments.Count > 0)
        {
            message["arguments"] = arguments;
        }

        return message;
    }

    private static void Set(JsonObject target, string[] path, JsonValue value)
    {
        foreach (string name in path[..^1])
        {
            if (!target.TryGet(name, out JsonValue? inner))
            {
                inner = new JsonObject();
                target[name] = inner;
            }

            target = inner as JsonObject ?? throw new FormatException($"'{name}' has a value already");
        }

        target[path[^1]] = value;
    }

    private static JsonValue Value(string text)
    {
        if (text.StartsWith('{') || text.StartsWith('[') || (text.Length > 1 && text[0] is ('"' or '\'')))
        {
            return JsonReader.Parse(text);
        }

        return text switch
        {
            "true" or "True" => true,
            "false" or "False" => false,
            "null" or "None" => JsonValue.Null,
            _ => long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long number) ? number : text,
        };
    }

    private static List<string> Words(string line)
    {
        List<string> words = [];
        StringBuilder word = new();
        int depth = 0;
        char quote = '\0';
        foreach (char c in line)
        {
            if (quote == '\0' && depth == 0 && char.IsWhiteSpace(c))
            {
                End(words, word);
                continue;
            }

            quote = quote == c ? '\0' : quote == '\0' && c is ('"' or '\'') ? c : quote;
            depth += quote != '\0' ? 0 : c is '{' or '[' ? 1 : c is '}' or ']' ? -1 : 0;
            _ = word.Append(c);
        }

        End(words, word);
        return words;
    }

    private static void End(List<string> words, StringBuilder word)
    {
        if (word.Length > 0)
        {
            words.Add(word.ToString());
            _ = word.Clear();
        }
    }
}
