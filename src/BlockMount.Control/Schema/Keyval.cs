using System.Globalization;
using System.Text;
using BlockMount.Control.Json;

namespace BlockMount.Control.Schema;

/// <summary>
/// Options in one argument: <c>driver=qcow2,file.driver=file,file.filename=a,,b</c>. Dots lead into objects, numbers into lists, two commas stand for
/// one, a later key wins over the same key before it, and the first one may be left out where it is implied. An argument that begins with a brace is JSON.
/// All leaves are strings.
/// </summary>
public static class Keyval
{
    private const int NameLengthMax = 127;

    /// <summary>Reads options of either form and checks them.</summary>
    /// <param name="type">A <see cref="StructType"/> or <see cref="UnionType"/>.</param>
    /// <param name="impliedKey">Key of a first value that has none; null if there must be one.</param>
    /// <returns>The arguments as if they had come as JSON.</returns>
    /// <exception cref="CommandException">They are malformed, or do not fit.</exception>
    public static JsonObject ParseAs(SchemaType type, string text, string? impliedKey)
    {
        if (!text.StartsWith('{'))
        {
            return ArgumentCheck.Convert(type, Parse(text, impliedKey));
        }

        try
        {
            JsonObject arguments = (JsonObject)JsonReader.Parse(text);
            ArgumentCheck.Check(type, arguments);
            return arguments;
        }
        catch (FormatException error)
        {
            throw new CommandException(error.Message, innerException: error);
        }
    }

    /// <summary>Takes key=value options apart.</summary>
    /// <param name="impliedKey">Key of a first value that has none; null if there must be one.</param>
    /// <exception cref="CommandException">They are malformed.</exception>
    public static JsonObject Parse(string text, string? impliedKey)
    {
        KeyvalTree tree = new();
        bool helpWanted = false;
        for (int at = 0; at < text.Length; impliedKey = null)
        {
            int keyLength = text.AsSpan(at).IndexOfAny('=', ',');
            keyLength = keyLength < 0 ? text.Length - at : keyLength;
            string key = text.Substring(at, keyLength);
            bool hasValue = at + keyLength < text.Length && text[at + keyLength] == '=';
            if (key.Length > 0 && !hasValue)
            {
                if (key is "help" or "?")
                {
                    helpWanted = true;
                    at += Math.Min(keyLength + 1, text.Length - at);
                    continue;
                }

                if (impliedKey is not null)
                {
                    tree.Set([impliedKey], impliedKey, Value(text, ref at));
                    continue;
                }
            }

            string[] path = Path(key);
            at += hasValue ? keyLength + 1 : throw new CommandException($"Expected '=' after parameter '{key}'");
            tree.Set(path, key, Value(text, ref at));
        }

        return helpWanted ? throw new CommandException("Help is not available for this option") : tree.ToObject();
    }

    private static string[] Path(string key)
    {
        string[] path = key.Split('.');
        for (int i = 0; i < path.Length; i++)
        {
            bool isIndex = i > 0 && path[i].Length > 0 && path[i].All(char.IsAsciiDigit)
                && int.TryParse(path[i], NumberStyles.None, CultureInfo.InvariantCulture, out _);
            if (!isIndex && !IsName(path[i]))
            {
                throw new CommandException($"Invalid parameter '{key}'");
            }
        }

        return path;
    }

    private static bool IsName(string text) =>
        text.Length is > 0 and <= NameLengthMax && char.IsAsciiLetter(text[0]) && text.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_');

    private static string Value(string text, ref int at)
    {
        StringBuilder value = new();
        while (at < text.Length)
        {
            if (text[at] == ',')
            {
                at++;
                if (at == text.Length || text[at] != ',')
                {
                    break;
                }
            }

            _ = value.Append(text[at++]);
        }

        return value.ToString();
    }
}
