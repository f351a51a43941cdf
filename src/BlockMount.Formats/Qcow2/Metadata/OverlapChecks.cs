using BlockMount.Base;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// Asked before anything is written into the image file: is this place what the writer takes it for (RELIABILITY S20, D4, D7)? Metadata goes only
/// into clusters that are registered for it and for nothing else, guest data never into a cluster that holds metadata, and an allocation never
/// gets one. A wrong answer is damage (<see cref="ImageHealth"/>). The option overlap-check chooses which other kinds count; the header's cluster
/// always does.
/// <para>Questions may be asked from any thread; registration runs under the metadata mutex.</para>
/// </summary>
public sealed class OverlapChecks
{
    private readonly Geometry _geometry;
    private readonly MetadataMap _map;
    private readonly MetadataKinds _checked;

    /// <param name="checkedKinds">Kinds that must not be overwritten by others.</param>
    public OverlapChecks(Geometry geometry, ImageHealth health, MetadataMap map, MetadataKinds checkedKinds)
    {
        _geometry = geometry;
        Health = health;
        _map = map;
        _checked = checkedKinds | MetadataKinds.MainHeader;
    }

    /// <summary>What becomes of findings.</summary>
    public ImageHealth Health { get; }

    /// <summary>Registers clusters that hold a table from now on, before their first content is written. Under the metadata mutex.</summary>
    public void Add(HostRun run, MetadataKinds kind) => _map.Add(run, kind);

    /// <summary>
    /// Takes back <see cref="Add"/>: no table in memory names the clusters any more, or they never became a table. Under the metadata mutex.
    /// </summary>
    public void Remove(HostRun run, MetadataKinds kind) => _map.Remove(run, kind);

    /// <summary>
    /// How many of the <paramref name="length"/> bytes from <paramref name="hostOffset"/> on may hold guest data: those before the first cluster
    /// with metadata. 0 or less: none. Hot: one look-up per cluster.
    /// </summary>
    public long DataLength(long hostOffset, long length)
    {
        HostCluster cluster = _geometry.HostClusterOf(hostOffset);
        long end = hostOffset + length;
        for (long offset = _geometry.OffsetOf(cluster); offset < end; offset += _geometry.ClusterSize)
        {
            if ((_map.KindsOf(cluster) & _checked) != 0)
            {
                return offset - hostOffset;
            }

            cluster += 1;
        }

        return length;
    }

    /// <summary>Damage if any cluster of the run holds metadata: the run is about to be used, or freed, as guest data.</summary>
    public void CheckData(HostRun run, long? guestOffset = null)
    {
        for (HostCluster cluster = run.Start; cluster.Index < run.End.Index; cluster += 1)
        {
            MetadataKinds found = _map.KindsOf(cluster) & _checked;
            if (found != 0)
            {
                throw Health.Damaged($"guest data is said to be in a cluster that holds the {Name(found)}", _geometry.OffsetOf(cluster), guestOffset);
            }
        }
    }

    /// <summary>
    /// Damage unless the clusters of [<paramref name="hostOffset"/>, + <paramref name="length"/>) are registered as <paramref name="own"/>,
    /// once, and as nothing else: they are about to be written, or changed, as such a table.
    /// </summary>
    /// <param name="sharedWith">
    /// Kinds that may use the same table, which is about to be left: then it may also be named more than once. None for a table to be written.
    /// </param>
    public void CheckTable(MetadataKinds own, long hostOffset, long length, MetadataKinds sharedWith = MetadataKinds.None)
    {
        HostCluster last = _geometry.HostClusterOf(hostOffset + length - 1);
        for (HostCluster cluster = _geometry.HostClusterOf(hostOffset); cluster.Index <= last.Index; cluster += 1)
        {
            MetadataKinds kinds = _map.KindsOf(cluster);
            MetadataKinds others = kinds & _checked & ~own & ~sharedWith;
            if (others != 0)
            {
                throw Health.Damaged($"the {Name(own)} is said to be in a cluster that holds the {Name(others)}", _geometry.OffsetOf(cluster));
            }

            if ((kinds & own) == 0)
            {
                throw Health.Damaged($"the {Name(own)} would be written to a cluster that is not its own", _geometry.OffsetOf(cluster));
            }

            if (sharedWith == MetadataKinds.None && (own & _checked) != 0 && _map.IsShared(cluster))
            {
                throw Health.Damaged($"two entries name the same {Name(own)}", _geometry.OffsetOf(cluster));
            }
        }
    }

    /// <summary>Damage if free clusters, by their refcounts, hold metadata; an error if they lie beyond what the format can address.</summary>
    /// <exception cref="BlockIOException">EIO: damage. EFBIG: the file would become too long.</exception>
    public void CheckAllocation(HostRun run)
    {
        if (run.End.Index > Qcow2Limits.HostOffsetEnd >> _geometry.ClusterBits)
        {
            throw new BlockIOException(Errno.EFBIG, $"allocation at cluster {run.Start.Index}: a qcow2 file ends before {Qcow2Limits.HostOffsetEnd} bytes");
        }

        for (HostCluster cluster = run.Start; cluster.Index < run.End.Index; cluster += 1)
        {
            MetadataKinds found = _map.KindsOf(cluster) & _checked;
            if (found != 0)
            {
                throw Health.Damaged($"a cluster with refcount 0 holds the {Name(found)}", _geometry.OffsetOf(cluster));
            }
        }
    }

    // Of several kinds the first one.
    private static string Name(MetadataKinds kinds) => (kinds & (MetadataKinds)(-(int)kinds)) switch
    {
        MetadataKinds.MainHeader => "header",
        MetadataKinds.ActiveL1 => "active L1 table",
        MetadataKinds.ActiveL2 => "active L2 table",
        MetadataKinds.RefcountTable => "refcount table",
        MetadataKinds.RefcountBlock => "refcount block",
        MetadataKinds.SnapshotTable => "snapshot table",
        MetadataKinds.InactiveL1 => "L1 table of a snapshot",
        MetadataKinds.InactiveL2 => "L2 table of a snapshot",
        _ => "bitmap directory",
    };
}
