using BlockMount.Base.Interop;

namespace BlockMount.Exports.Fuse.Ring;

/// <summary>
/// Requests of one ring that other threads have finished. Only the ring's thread may hand replies to the kernel, because the kernel lets the next request
/// arrive at the thread that did: so they wait here, and the thread is woken. Any thread adds, without a lock; the ring's thread takes.
/// </summary>
internal sealed class FinishedRequests : IDisposable
{
    private readonly EventFd _wake = new();

    // The newest one; linked through Next.
    private FuseRequest? _newest;

    // 1 from the first addition until the ring's thread has looked.
    private int _signalled;

    /// <summary>The descriptor that becomes readable when something was added.</summary>
    internal int Descriptor => _wake.Descriptor;

    /// <summary>Hands a request whose reply is complete to the ring's thread.</summary>
    internal void Add(FuseRequest request)
    {
        FuseRequest? newest;
        do
        {
            newest = Volatile.Read(ref _newest);
            request.Next = newest;
        }
        while (Interlocked.CompareExchange(ref _newest, request, newest) != newest);

        if (Interlocked.Exchange(ref _signalled, 1) == 0)
        {
            Wake();
        }
    }

    /// <summary>Lets the ring's thread look around.</summary>
    internal void Wake() => _wake.Signal();

    /// <summary>Everything added so far, linked through Next, or null.</summary>
    internal FuseRequest? TakeAll()
    {
        // First: what is added from now on signals again.
        Interlocked.Exchange(ref _signalled, 0);
        return Interlocked.Exchange(ref _newest, null);
    }

    /// <inheritdoc/>
    public void Dispose() => _wake.Dispose();
}
