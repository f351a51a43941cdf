using System.Text;
using BlockMount.Base;

namespace BlockMount.Daemon.Storage;

/// <summary>
/// Options of --chardev, which are older than those of the other options: <c>socket,id=c,path=a,,b,server=on,wait=off</c>, where a name alone means on and one
/// with "no" before it off. Immutable.
/// </summary>
internal sealed class ChannelOptions
{
    private const string Kind = "backend";

    // What the option knows; what this program then does with it is another matter.
    private static readonly string[] s_known =
    [
        "id", Kind, "path", "host", "port", "fd", "to", "ipv4", "ipv6", "localaddr", "localport", "wait", "server", "delay", "nodelay", "reconnect", "telnet",
        "tn3270", "tls-creds", "tls-authz", "websocket", "width", "height", "cols", "rows", "mux", "signal", "name", "debug", "size", "chardev", "append",
        "logfile", "logappend", "mouse", "clipboard", "input-path", "abstract", "tight",
    ];

    private readonly Dictionary<string, string> _values;

    private ChannelOptions(Dictionary<string, string> values) => _values = values;

    /// <summary>Its id.</summary>
    public string Id => _values["id"];

    /// <summary>"socket", "stdio" or "null".</summary>
    public string Backend => _values.GetValueOrDefault(Kind, "");

    /// <summary>Reads the option; names that only one kind knows are not looked at yet.</summary>
    /// <exception cref="BlockMountException">It does not fit; in QEMU's words.</exception>
    public static ChannelOptions Parse(string text)
    {
        Dictionary<string, string> values = new(StringComparer.Ordinal);
        List<string> words = Split(text);
        for (int i = 0; i < words.Count; i++)
        {
            (string name, string value) = Pair(words[i], isFirst: i == 0);
            if (!s_known.Contains(name))
            {
                throw new BlockMountException($"Invalid parameter '{name}'");
            }

            values[name] = value;
        }

        ChannelOptions options = new(values);
        return values.ContainsKey("id") ? options : throw new BlockMountException("chardev: no id specified");
    }

    /// <summary>The value of an option; null if it is not given.</summary>
    public string? Text(string name) => _values.GetValueOrDefault(name);

    /// <summary>Whether an option is on; null if it is not given.</summary>
    /// <exception cref="BlockMountException">It is neither on nor off.</exception>
    public bool? Flag(string name) => Text(name) switch
    {
        null => null,
        "on" or "yes" or "true" or "y" => true,
        "off" or "no" or "false" or "n" => false,
        _ => throw new BlockMountException($"Parameter '{name}' expects 'on' or 'off'"),
    };

    /// <summary>Refuses what the kinds of this program cannot do.</summary>
    /// <exception cref="BlockMountException">It is asked for.</exception>
    public void RefuseUnsupported()
    {
        foreach (string name in (string[])["fd", "localaddr", "localport", "tls-creds", "tls-authz", "logfile"])
        {
            if (Text(name) is not null)
            {
                throw new BlockMountException($"'{name}' is not supported for monitors");
            }
        }

        foreach (string name in (string[])["telnet", "tn3270", "websocket", "mux", "abstract"])
        {
            if (Flag(name) == true)
            {
                throw new BlockMountException($"'{name}' is not supported for monitors");
            }
        }

        if (Text("reconnect") is not (null or "0"))
        {
            throw new BlockMountException("'reconnect' is not supported for monitors", "Let the monitor listen (server=on), and its clients connect again.");
        }
    }

    private static (string Name, string Value) Pair(string word, bool isFirst)
    {
        int equals = word.IndexOf('=', StringComparison.Ordinal);
        if (equals >= 0)
        {
            return (word[..equals], word[(equals + 1)..]);
        }

        return isFirst ? (Kind, word)
            : word.StartsWith("no", StringComparison.Ordinal) && s_known.Contains(word[2..]) ? (word[2..], "off")
            : (word, "on");
    }

    // At single commas; two stand for one.
    private static List<string> Split(string text)
    {
        List<string> words = [];
        StringBuilder word = new();
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] != ',')
            {
                _ = word.Append(text[i]);
            }
            else if (i + 1 < text.Length && text[i + 1] == ',')
            {
                _ = word.Append(text[i++]);
            }
            else
            {
                words.Add(word.ToString());
                _ = word.Clear();
            }
        }

        if (word.Length > 0)
        {
            words.Add(word.ToString());
        }

        return words;
    }
}
