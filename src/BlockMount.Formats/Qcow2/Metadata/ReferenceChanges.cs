namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>Takes in how the number of references to host clusters changes.</summary>
internal interface IReferenceSink
{
    /// <summary>The cluster gets <paramref name="delta"/> references more (fewer, if negative).</summary>
    public void Add(HostCluster cluster, int delta);
}

/// <summary>
/// What a structural change does to the refcounts of clusters that exist already. It is asked several times, once for each window of host
/// clusters and once in advance, and says the same every time.
/// </summary>
internal interface IReferenceChanges
{
    /// <summary>Tells <paramref name="sink"/> every change. It may read tables from the file.</summary>
    public ValueTask ReportAsync(IReferenceSink sink);
}

/// <summary>Short forms for runs of clusters.</summary>
internal static class ReferenceSinkExtensions
{
    /// <summary>Each cluster of the run gets <paramref name="delta"/> references more.</summary>
    internal static void Add(this IReferenceSink sink, HostRun run, int delta)
    {
        for (long i = 0; i < run.Count; i++)
        {
            sink.Add(run.Start + i, delta);
        }
    }
}
