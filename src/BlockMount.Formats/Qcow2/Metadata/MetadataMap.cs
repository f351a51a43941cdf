using System.Numerics;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// Which host clusters hold metadata, and of which kinds: an open-addressing table from cluster to kinds, so that memory follows the number of
/// tables (16 to 32 bytes each) and not the length of the file. Look-ups take no lock and may run beside one change; changes run under the
/// image's metadata mutex. Cluster 0 always holds the header.
/// <para>One slot is one word, which is read and written atomically:
/// <code>| cluster index, 47 bits | kinds, 16 bits |   (0: the slot was never used)</code>
/// A cluster that lost its kinds keeps its slot until the table is rebuilt, so that no look-up beside a change can miss another cluster.</para>
/// </summary>
public sealed class MetadataMap
{
    private const int KindBits = 16;
    private const ulong KindMask = (1UL << KindBits) - 1;

    // Set beside a kind that was added while it was there already.
    private const int SharedBit = 1 << 15;

    private const int SlotsMin = 64;

    // Odd, and different in every process: a hostile image must not be able to choose clusters that fall into one run of slots.
    private static readonly ulong s_multiplier = (ulong)Random.Shared.NextInt64() | 1;

    // Replaced as a whole when it fills up.
    private ulong[] _slots;

    // Slots that are not 0, changed under the metadata mutex.
    private int _used;

    /// <param name="expected">How many clusters will be added; more make it grow.</param>
    public MetadataMap(long expected = 0)
    {
        _slots = new ulong[SlotsFor(expected)];
        Add(new HostRun(new HostCluster(0), 1), MetadataKinds.MainHeader);
    }

    /// <summary>The kinds of metadata in a cluster. Any thread.</summary>
    public MetadataKinds KindsOf(HostCluster cluster) => (MetadataKinds)(WordOf(cluster) & KindMask & ~(ulong)SharedBit);

    /// <summary>True if the cluster was added more than once for the same kind: two entries name the same table. Any thread.</summary>
    public bool IsShared(HostCluster cluster) => (WordOf(cluster) & SharedBit) != 0;

    /// <summary>Adds a kind to each cluster of the run. Under the metadata mutex.</summary>
    public void Add(HostRun run, MetadataKinds kind)
    {
        for (long i = 0; i < run.Count; i++)
        {
            ref ulong slot = ref SlotForChange(run.Start + i);
            ulong shared = (slot & (ulong)kind) != 0 ? (ulong)SharedBit : 0;
            Volatile.Write(ref slot, slot | (ulong)kind | shared);
        }
    }

    /// <summary>Takes a kind from each cluster of the run; where it had been added twice, one of the two stays. Under the metadata mutex.</summary>
    public void Remove(HostRun run, MetadataKinds kind)
    {
        for (long i = 0; i < run.Count; i++)
        {
            ref ulong slot = ref SlotForChange(run.Start + i);
            ulong gone = (slot & SharedBit) != 0 ? (ulong)SharedBit : (ulong)kind;
            Volatile.Write(ref slot, slot & ~gone);
        }
    }

    private static int SlotsFor(long clusters) => (int)BitOperations.RoundUpToPowerOf2((uint)Math.Max(SlotsMin, (clusters + 1) * 2));

    private static ulong KeyOf(HostCluster cluster) => (ulong)(cluster.Index + 1) << KindBits;

    private static int FirstSlot(ulong[] slots, ulong key) =>
        (int)((key * s_multiplier) >> (BitOperations.LeadingZeroCount((uint)slots.Length - 1) + 32));

    private ulong WordOf(HostCluster cluster)
    {
        ulong[] slots = Volatile.Read(ref _slots);
        ulong key = KeyOf(cluster);
        int index = FirstSlot(slots, key);
        while (true)
        {
            ulong word = Volatile.Read(ref slots[index]);
            if (word == 0 || (word & ~KindMask) == key)
            {
                return word & KindMask;
            }

            index = (index + 1) & (slots.Length - 1);
        }
    }

    private ref ulong SlotForChange(HostCluster cluster)
    {
        if (_used * 2 >= _slots.Length)
        {
            Rebuild();
        }

        ulong key = KeyOf(cluster);
        ref ulong slot = ref FindSlot(_slots, key);
        if (slot == 0)
        {
            _used++;
            Volatile.Write(ref slot, key);
        }

        return ref slot;
    }

    // The cluster's slot, or the empty one where it belongs.
    private static ref ulong FindSlot(ulong[] slots, ulong key)
    {
        int index = FirstSlot(slots, key);
        while (slots[index] != 0 && (slots[index] & ~KindMask) != key)
        {
            index = (index + 1) & (slots.Length - 1);
        }

        return ref slots[index];
    }

    // Who looks into the old table meanwhile sees what was true when the rebuilding began, which is still true.
    private void Rebuild()
    {
        long live = 0;
        foreach (ulong word in _slots)
        {
            live += (word & KindMask) != 0 ? 1 : 0;
        }

        ulong[] larger = new ulong[SlotsFor(live * 2)];
        foreach (ulong word in _slots)
        {
            if ((word & KindMask) != 0)
            {
                FindSlot(larger, word & ~KindMask) = word;
            }
        }

        _used = (int)live;
        Volatile.Write(ref _slots, larger);
    }
}
