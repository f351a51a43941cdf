using System.Runtime.CompilerServices;

namespace BlockMount.Storage;

/// <summary>
/// The threads that wait in blocking file calls so that nobody else has to. Threads start on demand and stay, asleep when
/// idle. One queue, first in, first out, and linked through the items, so queueing allocates nothing.
/// <para>Only the blocking call itself runs here. What follows it (the awaiting code) runs on the .NET thread pool: it may
/// decompress, take locks or wait for another call of this very queue, which with a bounded number of threads would be a
/// deadlock. The .NET pool alone would not do either: it starts with one thread per core and adds others only slowly.</para>
/// </summary>
internal sealed class IoThreads
{
    // As many calls as a disk can usefully have in flight from us.
    private const int DefaultThreadsMax = 32;
    private const int StackBytes = 256 * 1024;

    private readonly object _gate = new();
    private readonly int _threadsMax;

    // All guarded by _gate.
    private IoWork? _first;
    private IoWork? _last;
    private int _threadCount;
    // Sleeping threads that nobody has woken yet.
    private int _idleCount;

    public IoThreads(int threadsMax = DefaultThreadsMax) => _threadsMax = threadsMax;

    /// <summary>The threads that all files of the process share.</summary>
    public static IoThreads Shared { get; } = new();

    /// <summary>Queues <paramref name="work"/>; await its Task for the end.</summary>
    public void Enqueue(IoWork work)
    {
        lock (_gate)
        {
            if (_idleCount > 0)
            {
                _idleCount--;
                Monitor.Pulse(_gate);
            }
            else if (_threadCount < _threadsMax)
            {
                // Under the gate, and before the item is queued: if this throws (no memory), nothing has happened.
                StartThread();
                _threadCount++;
            }

            AppendLocked(work);
        }
    }

    /// <summary>Runs <paramref name="call"/> on an I/O thread. Allocates; for what is not hot.</summary>
    public ValueTask RunAsync(Action call)
    {
        IoCall work = new(call);
        Enqueue(work);
        return work.Task;
    }

    private void StartThread()
    {
        Thread thread = new(static state => Unsafe.As<IoThreads>(state!).RunLoop(), StackBytes)
        {
            IsBackground = true,
            Name = "blockmount-io",
        };
        thread.UnsafeStart(this);
    }

    private void RunLoop()
    {
        while (true)
        {
            TakeNext().RunAndComplete();
        }
    }

    private IoWork TakeNext()
    {
        lock (_gate)
        {
            while (_first is null)
            {
                _idleCount++;
                Monitor.Wait(_gate);
            }

            IoWork work = _first;
            _first = work.Next;
            work.Next = null;
            if (_first is null)
            {
                _last = null;
            }

            return work;
        }
    }

    private void AppendLocked(IoWork work)
    {
        if (_last is null)
        {
            _first = work;
        }
        else
        {
            _last.Next = work;
        }

        _last = work;
    }

    private sealed class IoCall(Action call) : IoWork
    {
        protected override void Run() => call();
    }
}
