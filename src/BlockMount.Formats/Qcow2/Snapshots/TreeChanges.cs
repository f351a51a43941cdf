using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Snapshots;

/// <summary>
/// What changes in the refcounts when trees of tables (an L1 table with all that hangs on it) come and go. Each tree counts by itself, tables and
/// data alike: a cluster's refcount is the number of paths from L1 tables to it (qcow2 specification, "Snapshots").
/// </summary>
internal sealed class TreeChanges : IReferenceChanges
{
    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly int _l2EntrySize;
    private readonly List<Tree> _trees = [];
    private readonly List<Substitution> _substitutions = [];
    private readonly List<HostRun> _lost = [];

    /// <param name="l2EntrySize">Bytes of an L2 entry: 8 or 16.</param>
    internal TreeChanges(StorageFile file, Geometry geometry, int l2EntrySize)
    {
        _file = file;
        _geometry = geometry;
        _l2EntrySize = l2EntrySize;
    }

    /// <summary>
    /// The first <paramref name="count"/> entries of a tree get <paramref name="delta"/> references more: their tables, and all that these refer to.
    /// </summary>
    internal void AddTree(L1Entry[] l1, int count, int delta) => _trees.Add(new Tree(l1, count, delta));

    /// <summary>
    /// Where two L1 tables differ, the table of <paramref name="before"/> was copied, and <paramref name="users"/> trees that would have used it use
    /// the copy. Asked again for each report: the copies may still be made.
    /// </summary>
    internal void AddSubstitution(L1Entry[] before, L1Entry[] after, int count, int users) =>
        _substitutions.Add(new Substitution(before, after, count, users));

    /// <summary>Each cluster of a table that is given up loses its reference.</summary>
    internal void AddLost(HostRun run) => _lost.Add(run);

    /// <inheritdoc/>
    public async ValueTask ReportAsync(IReferenceSink sink)
    {
        foreach (HostRun run in _lost)
        {
            sink.Add(run, -1);
        }

        foreach (Substitution substitution in _substitutions)
        {
            Report(substitution, sink);
        }

        using L2TableBuffer table = new(_file, _geometry, _l2EntrySize);
        foreach (Tree tree in _trees)
        {
            await ReportAsync(tree, table, sink);
        }
    }

    private void Report(Substitution substitution, IReferenceSink sink)
    {
        for (int i = 0; i < substitution.Count; i++)
        {
            long before = substitution.Before[i].TableOffset;
            long after = substitution.After[i].TableOffset;
            if (before != after)
            {
                sink.Add(_geometry.HostClusterOf(before), -substitution.Users);
                // The allocator has given the copy its first reference.
                if (substitution.Users > 1)
                {
                    sink.Add(_geometry.HostClusterOf(after), substitution.Users - 1);
                }
            }
        }
    }

    private async ValueTask ReportAsync(Tree tree, L2TableBuffer table, IReferenceSink sink)
    {
        for (int i = 0; i < tree.Count; i++)
        {
            if (!tree.L1[i].IsPresent)
            {
                continue;
            }

            sink.Add(_geometry.HostClusterOf(tree.L1[i].TableOffset), tree.Delta);
            await table.LoadAsync(tree.L1[i].TableOffset);
            for (int k = 0; k < table.Count; k++)
            {
                if (table.TryGetClusters(table[k], out HostRun clusters))
                {
                    sink.Add(clusters, tree.Delta);
                }
            }
        }
    }

    private readonly record struct Tree(L1Entry[] L1, int Count, int Delta);

    private readonly record struct Substitution(L1Entry[] Before, L1Entry[] After, int Count, int Users);
}
