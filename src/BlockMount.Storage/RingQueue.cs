using BlockMount.Base.Interop;

namespace BlockMount.Storage;

/// <summary>
/// The requests that an engine's ring has not taken yet, first in, first out, and what wakes the engine's thread. Any thread adds, the engine's
/// thread takes. Linked through the requests, so queueing allocates nothing.
/// </summary>
internal sealed class RingQueue : IDisposable
{
    private readonly EventFd _wake = new();
    private readonly Lock _gate = new();

    // All guarded by _gate.
    private RingRequest? _first;
    private RingRequest? _last;
    // The engine waits, or is about to, and nobody has woken it yet.
    private bool _isSleeping;
    private bool _isClosed;

    /// <summary>The descriptor that becomes readable when the engine has to look.</summary>
    internal int WakeDescriptor => _wake.Descriptor;

    /// <summary>Adds a request; it belongs to the engine from here on.</summary>
    internal void Add(RingRequest request)
    {
        bool wake;
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
            wake = _isSleeping;
            _isSleeping = false;
        }

        if (wake)
        {
            _wake.Signal();
        }
    }

    /// <summary>The oldest request. Null if there is none: the engine may sleep then, the next request wakes it.</summary>
    internal RingRequest? TakeOrSleep()
    {
        lock (_gate)
        {
            RingRequest? request = _first;
            if (request is null)
            {
                _isSleeping = true;
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
            _isSleeping = false;
        }
    }

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

    /// <summary>Lets the engine look around.</summary>
    internal void Wake() => _wake.Signal();

    /// <summary>The engine ends when it has nothing left to do.</summary>
    internal void Close()
    {
        lock (_gate)
        {
            _isClosed = true;
        }

        _wake.Signal();
    }

    /// <inheritdoc/>
    public void Dispose() => _wake.Dispose();
}
