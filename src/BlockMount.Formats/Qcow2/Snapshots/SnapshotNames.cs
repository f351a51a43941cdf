using System.Globalization;
using System.Text;
using BlockMount.Base;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Snapshots;

/// <summary>Names and ids of internal snapshots: who is meant, and what a new one is called. Names need not be unique, ids are.</summary>
public static class SnapshotNames
{
    /// <summary>Bytes of a new snapshot's name in UTF-8. QEMU keeps it in 256 bytes with a NUL and cuts off the rest.</summary>
    public const int NameBytesMax = 255;

    /// <summary>Index of the snapshot with that id, else of the first with that name, else -1: what QEMU does to apply one.</summary>
    public static int IndexOf(IReadOnlyList<SnapshotEntry> snapshots, string idOrName)
    {
        int byId = IndexOf(snapshots, snapshot => snapshot.Id == idOrName);
        return byId >= 0 ? byId : IndexOf(snapshots, snapshot => snapshot.Name == idOrName);
    }

    /// <summary>Index of the first snapshot with that name, or -1.</summary>
    public static int IndexOfName(IReadOnlyList<SnapshotEntry> snapshots, string name) => IndexOf(snapshots, snapshot => snapshot.Name == name);

    /// <summary>As <see cref="IndexOf(IReadOnlyList{SnapshotEntry}, string)"/>.</summary>
    /// <exception cref="BlockIOException">ENOENT: there is none.</exception>
    internal static int Find(IReadOnlyList<SnapshotEntry> snapshots, string idOrName, string fileName)
    {
        int index = IndexOf(snapshots, idOrName);
        return index >= 0
            ? index
            : throw new BlockIOException(
                Errno.ENOENT, $"snapshot '{idOrName}' of '{fileName}'", "See 'blockmount snapshot -l' for the names and ids that there are");
    }

    /// <summary>The id for a new snapshot: one more than the highest that begins with a decimal number.</summary>
    internal static string NewId(IReadOnlyList<SnapshotEntry> snapshots)
    {
        ulong highest = 0;
        foreach (SnapshotEntry snapshot in snapshots)
        {
            int digits = 0;
            while (digits < snapshot.Id.Length && char.IsAsciiDigit(snapshot.Id[digits]))
            {
                digits++;
            }

            if (ulong.TryParse(snapshot.Id.AsSpan(0, digits), CultureInfo.InvariantCulture, out ulong number))
            {
                highest = Math.Max(highest, number);
            }
        }

        string id = unchecked(highest + 1).ToString(CultureInfo.InvariantCulture);
        // After the highest number of 64 bits comes 0, which may be taken; then any free one does.
        for (ulong candidate = 1; IndexOf(snapshots, snapshot => snapshot.Id == id) >= 0; candidate++)
        {
            id = candidate.ToString(CultureInfo.InvariantCulture);
        }

        return id;
    }

    /// <summary>Refuses names that cannot be stored, and one snapshot too many.</summary>
    /// <exception cref="BlockIOException">EINVAL or EFBIG.</exception>
    internal static void CheckNew(IReadOnlyList<SnapshotEntry> snapshots, string name, string fileName)
    {
        if (Encoding.UTF8.GetByteCount(name) > NameBytesMax || name.Contains('\0', StringComparison.Ordinal))
        {
            throw new BlockIOException(
                Errno.EINVAL, $"creating a snapshot of '{fileName}'", $"The name of a snapshot has at most {NameBytesMax} bytes, and no NUL among them");
        }

        if (snapshots.Count >= Qcow2Limits.SnapshotCountMax)
        {
            throw new BlockIOException(
                Errno.EFBIG, $"creating a snapshot of '{fileName}', which has {snapshots.Count}", "Delete snapshots that are not needed any more");
        }
    }

    private static int IndexOf(IReadOnlyList<SnapshotEntry> snapshots, Predicate<SnapshotEntry> predicate)
    {
        for (int i = 0; i < snapshots.Count; i++)
        {
            if (predicate(snapshots[i]))
            {
                return i;
            }
        }

        return -1;
    }
}
