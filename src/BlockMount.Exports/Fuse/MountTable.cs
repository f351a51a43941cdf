using System.Globalization;
using System.Text;

namespace BlockMount.Exports.Fuse;

/// <summary>One mount of this process's mount namespace, as /proc/self/mountinfo tells it.</summary>
/// <param name="Id">Unique among the mounts that exist at one time.</param>
/// <param name="MountPoint">Canonical absolute path, unescaped.</param>
/// <param name="FileSystemType">As "fuse.blockmount".</param>
/// <param name="Source">As the mounting program named it.</param>
/// <param name="DeviceMinor">Minor number of the file system's device: what FUSE names its connections by.</param>
public readonly record struct MountEntry(int Id, string MountPoint, string FileSystemType, string Source, uint DeviceMinor)
{
    // 36 35 98:0 /root /mount/point rw,noatime shared:1 - type source options
    internal static bool TryParse(string line, out MountEntry entry)
    {
        entry = default;
        string[] fields = line.Split(' ');
        int separator = Array.IndexOf(fields, "-", 6 < fields.Length ? 6 : 0);
        if (separator < 0 || separator + 2 >= fields.Length
            || !int.TryParse(fields[0], NumberStyles.None, CultureInfo.InvariantCulture, out int id)
            || !uint.TryParse(fields[2].AsSpan(fields[2].IndexOf(':', StringComparison.Ordinal) + 1), NumberStyles.None, CultureInfo.InvariantCulture, out uint minor))
        {
            return false;
        }

        entry = new MountEntry(id, Unescape(fields[4]), Unescape(fields[separator + 1]), Unescape(fields[separator + 2]), minor);
        return true;
    }

    // Space, tab, newline and backslash are written as three octal digits behind a backslash.
    private static string Unescape(string field)
    {
        if (!field.Contains('\\', StringComparison.Ordinal))
        {
            return field;
        }

        StringBuilder text = new(field.Length);
        for (int i = 0; i < field.Length; i++)
        {
            if (field[i] == '\\' && i + 3 < field.Length)
            {
                text.Append((char)(((field[i + 1] - '0') << 6) | ((field[i + 2] - '0') << 3) | (field[i + 3] - '0')));
                i += 3;
            }
            else
            {
                text.Append(field[i]);
            }
        }

        return text.ToString();
    }
}

/// <summary>What is mounted where, in this process's mount namespace.</summary>
public static class MountTable
{
    /// <summary>The mount that a look-up of the canonical path <paramref name="mountPoint"/> meets; null if nothing is mounted on it.</summary>
    public static MountEntry? FindTop(string mountPoint)
    {
        MountEntry? top = null;
        foreach (string line in File.ReadLines("/proc/self/mountinfo"))
        {
            // Later mounts come later in the table.
            if (MountEntry.TryParse(line, out MountEntry entry) && entry.MountPoint == mountPoint)
            {
                top = entry;
            }
        }

        return top;
    }
}
