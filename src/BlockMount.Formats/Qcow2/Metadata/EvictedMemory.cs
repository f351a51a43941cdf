namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// Keeps the process near its memory budget while caches are too small for the working set. Slices live long enough to reach the
/// collector's oldest generation and die there, which it notices late on a machine with free memory: the process grew to several times its
/// budget. So after so many evicted bytes, in the whole process, a collection is asked for. It takes a few milliseconds, and comes
/// only while slices are being loaded from storage all the time anyway.
/// </summary>
internal static class EvictedMemory
{
    // What a process may hold beyond its budget. With 12 MiB instead of 32 a cache that misses on every read costs no more than it did.
    private const long BytesPerCollection = 12 << 20;

    private static long s_bytes;

    /// <summary>A slice of that many bytes was evicted. Call without holding a lock.</summary>
    internal static void Add(long bytes)
    {
        if (bytes == 0 || Interlocked.Add(ref s_bytes, bytes) < BytesPerCollection)
        {
            return;
        }

        // One of several threads that arrive here at once goes on.
        if (Interlocked.Exchange(ref s_bytes, 0) >= BytesPerCollection)
        {
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Forced, blocking: true, compacting: false);
        }
    }
}
