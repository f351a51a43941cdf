using BlockMount.Base.Async;

namespace BlockMount.Storage;

/// <summary>One blocking call on its way through <see cref="IoThreads"/>. Whoever awaits it resumes on the thread pool.</summary>
internal abstract class IoWork : PooledCompletion
{
    /// <summary>The link of the queue's list; guarded by the queue's gate.</summary>
    internal IoWork? Next { get; set; }

    /// <summary>Runs on an I/O thread and may block there. Whatever it throws is thrown to the waiter.</summary>
    protected abstract void Run();

    /// <summary>Called by the I/O thread.</summary>
    internal void RunAndComplete()
    {
        try
        {
            Run();
        }
        catch (Exception error)
        {
            // Not swallowed: it is rethrown where the work is awaited.
            Fail(error);
            return;
        }

        Complete();
    }
}
