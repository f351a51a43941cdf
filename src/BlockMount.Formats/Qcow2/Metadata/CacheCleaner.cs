namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// Lets go of cached metadata that nobody uses (option cache-clean-interval): after a busy hour an idle image must not keep its whole budget. Owns a
/// timer; disposal waits for its last run.
/// </summary>
internal sealed class CacheCleaner : IAsyncDisposable
{
    private readonly ITimer _timer;

    /// <param name="time">The clock.</param>
    /// <param name="interval">A slice stays at least so long after its last use, and at most twice as long. More than zero.</param>
    internal CacheCleaner(TimeProvider time, TimeSpan interval, IReadOnlyList<MetadataCache> caches)
    {
        _timer = time.CreateTimer(_ => Clean(caches), state: null, interval, interval);
    }

    public ValueTask DisposeAsync() => _timer.DisposeAsync();

    private static void Clean(IReadOnlyList<MetadataCache> caches)
    {
        foreach (MetadataCache cache in caches)
        {
            cache.DropUnused();
        }
    }
}
