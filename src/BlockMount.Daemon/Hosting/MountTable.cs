using System.Text;

namespace BlockMount.Daemon.Hosting;

/// <summary>One line of /proc/self/mountinfo.</summary>
/// <param name="MountPoint">Absolute path in this namespace.</param>
/// <param name="Type">File system type, as "fuse.blockmount".</param>
/// <param name="Source">For our mounts the image's path.</param>
internal sealed record MountEntry(string MountPoint, string Type, string Source)
{
    /// <summary>Type of the mounts that this program makes.</summary>
    public const string OurType = "fuse.blockmount";

    /// <summary>True for a mount that this program made.</summary>
    public bool IsOurs => Type == OurType;
}

/// <summary>What is mounted where, as the kernel tells. Looking never touches the mounts, so a dead one does no harm.</summary>
internal static class MountTable
{
    /// <summary>The mount that is visible at exactly <paramref name="path"/> (absolute, canonical), or null.</summary>
    public static MountEntry? FindTop(string path)
    {
        MountEntry? found = null;
        foreach (string line in File.ReadLines("/proc/self/mountinfo"))
        {
            // id parent major:minor root mountpoint options [optional...] - type source superoptions
            string[] words = line.Split(' ');
            int separator = Array.IndexOf(words, "-", 6);
            if (separator > 0 && words.Length > separator + 2 && Unescape(words[4]) == path)
            {
                found = new MountEntry(path, words[separator + 1], Unescape(words[separator + 2]));
            }
        }

        return found;
    }

    // Space, tab, newline and backslash come as \ooo.
    private static string Unescape(string text)
    {
        if (!text.Contains('\\', StringComparison.Ordinal))
        {
            return text;
        }

        StringBuilder result = new(text.Length);
        for (int i = 0; i < text.Length; i++)
        {
            bool escape = text[i] == '\\' && i + 3 < text.Length;
            result.Append(escape ? (char)Convert.ToInt32(text.Substring(i + 1, 3), 8) : text[i]);
            i += escape ? 3 : 0;
        }

        return result.ToString();
    }
}
