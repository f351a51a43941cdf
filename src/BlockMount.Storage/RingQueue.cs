using BlockMount.Base.Interop;

namespace BlockMount.Storage;

/// <summary>
/// The requests that an engine's ring has not taken yet, first in, first out, and what wakes the engine's thread. Any thread adds, the engine's
/// thread takes. Linked through the requests, so queueing allocates nothing.
/// <para>An engine with nothing under way waits here, which is what a client with one request at a time meets: cheaper than a wake-up through the
/// ring. While the kernel has requests the engine waits for those, in the ring, and only a descriptor that the ring reads reaches it there.</para>
/// </summary>
internal sealed class RingQueue : IDisposable
{
    private readonly EventFd _wake = new();
    private readonly object _gate = new();

    // All guarded by _gate.
    private RingRequest? _first;
    private RingRequest? _last;
    private Sleep _sleep;
    private bool _isClosed;

    // Where the engine waits, or is about to, and nobody has woken it yet.
    private enum Sleep
    {
        None,
        Here,
        InTheRing,
    }

    /// <summary>The descriptor that becomes readable when the engine has to look.</summary>
    internal int WakeDescriptor => _wake.Descriptor;

    /// <summary>Nothing is added any more.</summary>
    internal bool IsClosed
    {
        get
        {
            lock (_gate)
            {
                return _isClosed;
            }
        }
    }

    /// <summary>Adds a request; it belongs to the engine from here on.</summary>
    internal void Add(RingRequest request)
    {
        Sleep sleep;
        lock (_gate)
        {
            if (_last is null)
            {
                _first = request;
            }
            else
            {
                _last.Next = request;
            }

            _last = request;
            sleep = _sleep;
            _sleep = Sleep.None;
            if (sleep == Sleep.Here)
            {
                Monitor.Pulse(_gate);
            }
        }

        if (sleep == Sleep.InTheRing)
        {
            _wake.Signal();
        }
    }

    /// <summary>The oldest request. Null if there is none: the engine may wait in the ring then, and the next request wakes it.</summary>
    /// <param name="mayWait">Nothing is under way: wait here for a request, or for <see cref="Close"/>.</param>
    internal RingRequest? Take(bool mayWait)
    {
        lock (_gate)
        {
            while (mayWait && _first is null && !_isClosed)
            {
                _sleep = Sleep.Here;
                Monitor.Wait(_gate);
            }

            RingRequest? request = _first;
            if (request is null)
            {
                _sleep = Sleep.InTheRing;
                return null;
            }

            _first = request.Next;
            request.Next = null;
            if (_first is null)
            {
                _last = null;
            }

            return request;
        }
    }

    /// <summary>The engine is awake and will look before it sleeps again: nobody need wake it.</summary>
    internal void Awake()
    {
        lock (_gate)
        {
            _sleep = Sleep.None;
        }
    }

    /// <summary>Lets the ring read its descriptor.</summary>
    internal void Wake() => _wake.Signal();

    /// <summary>The engine ends when it has nothing left to do.</summary>
    internal void Close()
    {
        lock (_gate)
        {
            _isClosed = true;
            Monitor.Pulse(_gate);
        }

        _wake.Signal();
    }

    /// <inheritdoc/>
    public void Dispose() => _wake.Dispose();
}
