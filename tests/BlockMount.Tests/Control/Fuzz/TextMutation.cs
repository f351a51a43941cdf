using System.Text.RegularExpressions;

namespace BlockMount.Tests.Control.Fuzz;

/// <summary>Changes texts by their structure: words, numbers and marks are left out, doubled, moved, replaced and nested, and two texts are joined.</summary>
internal static partial class TextMutation
{
    private const int ChangesMax = 4;

    private static readonly string[] s_words =
    [
        "{", "}", "[", "]", ":", ",", ",,", "=", ".", "..", "'", "\"", "\\", "\\u00", "\\ud83d", "\\ude00", "true", "null", "on", "off", "help", "?", "-", "-n", "-f", "#", " ", "\t",
        "0", "-1", "00", "0x", "0x7fffffffffffffff", "9223372036854775807", "9223372036854775808", "18446744073709551615", "99999999999999999999", "1e400", "1.5", "1.5G", "7E", "8E",
        "drive0", "driver", "file", "qcow2", "raw", "execute", "arguments", "id", "device", "size", "%d", "%", "\u0001", "\u007f", "\0", "é", "😀", "\ud83d", "\uffff", "ÿ",
    ];

    /// <summary>One of the texts, changed up to a few times.</summary>
    public static string Next(Random random, string[] texts)
    {
        List<string> pieces = Pieces(texts[random.Next(texts.Length)]);
        for (int i = random.Next(1, ChangesMax + 1); i > 0; i--)
        {
            Change(random, pieces, texts);
        }

        return string.Concat(pieces);
    }

    private static void Change(Random random, List<string> pieces, string[] texts)
    {
        int at = random.Next(pieces.Count + 1);
        int to = Math.Min(at + random.Next(1, 6), pieces.Count);
        switch (random.Next(8))
        {
            case 0:
                pieces.RemoveRange(at, to - at);
                break;
            case 1:
                pieces.InsertRange(at, pieces.GetRange(at, to - at));
                break;
            case 2:
                List<string> other = Pieces(texts[random.Next(texts.Length)]);
                pieces.RemoveRange(at, pieces.Count - at);
                pieces.AddRange(other.Skip(random.Next(other.Count + 1)));
                break;
            case 3:
                pieces.RemoveRange(at, pieces.Count - at);
                break;
            case 4:
                Nest(random, pieces, at);
                break;
            case 5 when at < pieces.Count:
                pieces[at] = s_words[random.Next(s_words.Length)];
                break;
            case 6 when at < pieces.Count && pieces[at].Length > 0:
                pieces[at] = pieces[at].Remove(random.Next(pieces[at].Length), 1);
                break;
            default:
                pieces.Insert(at, s_words[random.Next(s_words.Length)]);
                break;
        }
    }

    // Up to a little deeper than readers allow.
    private static void Nest(Random random, List<string> pieces, int at)
    {
        int depth = random.Next(4) == 0 ? random.Next(1100) : random.Next(6);
        (string open, string close) = random.Next(4) switch
        {
            0 => ("{\"a\":", "}"),
            1 => ("a.", ""),
            2 => ("0.", ""),
            _ => ("[", "]"),
        };
        pieces.Insert(at, string.Concat(Enumerable.Repeat(open, depth)));
        pieces.Insert(random.Next(at + 1, pieces.Count + 1), string.Concat(Enumerable.Repeat(close, depth)));
    }

    private static List<string> Pieces(string text) => [.. Piece().Matches(text).Select(match => match.Value)];

    [GeneratedRegex(@"[\w-]+|\s+|.", RegexOptions.Singleline)]
    private static partial Regex Piece();
}
