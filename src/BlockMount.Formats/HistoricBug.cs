namespace BlockMount.Formats;

/// <summary>
/// Bugs that other programs had (RELIABILITY C2), re-created where this program avoids them, and the rules of the write order (Metadata/README.md), each
/// broken once. They prove the test harnesses: each must be caught.
/// </summary>
internal enum Bug
{
    None,

    /// <summary>The lock of the guest clusters does not last until the commit: a discard frees what a write is going to link.</summary>
    D1LockDroppedAroundData,

    /// <summary>A freed cluster is handed out while an older request still uses it.</summary>
    D2FreedClusterReusedInFlight,

    /// <summary>The hole is punched when the cluster may have been handed out again.</summary>
    D3HolePunchedAfterReuse,

    /// <summary>The cluster of a new L2 table goes back to the free ones.</summary>
    D4LiveTableHandedOut,

    /// <summary>Two loads of one slice both put theirs into the cache.</summary>
    D5CacheWithoutLock,

    /// <summary>Freed clusters are not found again while the image stays open: the file grows for ever, and a check finds nothing wrong.</summary>
    D6FreedNeverReused,

    /// <summary>A zero entry without a host cluster is taken for one at offset 0: data overwrites the header.</summary>
    D7DataAtOffsetZero,

    /// <summary>A new refcount block counts itself only after it is in force: an error in between leaves a used cluster with refcount 0.</summary>
    D8BlockCountedTooLate,

    /// <summary>I2: what was written into new clusters is not flushed before their L2 entries.</summary>
    I2TablesBeforeData,

    /// <summary>I3: refcounts are written behind the entries that need them.</summary>
    I3TablesBeforeRefcounts,

    /// <summary>I4: refcounts drop before the tables without the clusters are on disk.</summary>
    I4ReleasedBeforeTables,

    /// <summary>I5, second half: a zeroed cluster is filled again while an older write to it is under way.</summary>
    I5HiddenReusedInFlight,
}

/// <summary>
/// Switches a <see cref="Bug"/> on. In the product there is no switch: the answer is a constant, and the compiler removes what hangs on it. Tests compile these
/// sources a second time, with the symbol HISTORIC_BUGS.
/// </summary>
internal static class HistoricBug
{
#if HISTORIC_BUGS
    private static long s_elsewhere;

    /// <summary>The one that is on. Change it only while no image is open.</summary>
    internal static Bug Active { get; set; }

    /// <summary>True if <paramref name="bug"/> is on.</summary>
    internal static bool Is(Bug bug) => Active == bug;

    /// <summary>A place in the space of guest clusters that no disk has and nobody else gets.</summary>
    internal static long Elsewhere() => s_elsewhere -= 1L << 32;
#else
    /// <summary>False.</summary>
    internal static bool Is(Bug bug) => false;

    /// <summary>Not used.</summary>
    internal static long Elsewhere() => 0;
#endif
}
