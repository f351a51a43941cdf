using System.Diagnostics;

namespace BlockMount.TestSupport.Simulation;

/// <summary>
/// Runs asynchronous code on the calling thread, one continuation at a time, in an order that a seed decides. Everything that the code awaits must
/// complete through this context (no thread pool, no timers), then a run is a pure function of its seed.
/// </summary>
public sealed class SimulationContext : SynchronizationContext
{
    // Far above what a test needs: a run that gets here does not end.
    private const long StepsMax = 200_000_000;

    private readonly Random _random;
    private readonly int _thread = Environment.CurrentManagedThreadId;
    private readonly List<(SendOrPostCallback Callback, object? State)> _ready = [];

    /// <param name="seed">Decides every order.</param>
    public SimulationContext(int seed)
    {
        _random = new Random(seed);
    }

    /// <summary>Continuations run so far.</summary>
    public long Steps { get; private set; }

    /// <summary>A hash of every choice made: equal seeds must give equal traces.</summary>
    public ulong Trace { get; private set; } = 14695981039346656037;

    /// <summary>Runs <paramref name="body"/> to its end.</summary>
    /// <exception cref="InvalidOperationException">Nothing is left to run and the body has not ended: a deadlock, or a wait for something outside.</exception>
    public static SimulationContext Run(int seed, Func<SimulationContext, Task> body)
    {
        SynchronizationContext? before = Current;
        SimulationContext context = new(seed);
        SetSynchronizationContext(context);
        try
        {
            Task task = body(context);
            context.PumpUntil(task);
            // Ended, so this only throws what it failed with.
            task.GetAwaiter().GetResult();
        }
        finally
        {
            SetSynchronizationContext(before);
        }

        return context;
    }

    /// <summary>Lets others run first: mostly a few, now and then very many, so that slow calls meet fast ones.</summary>
    public async ValueTask PauseAsync()
    {
        int rounds = _random.Next(8) switch { 0 => 0, < 6 => 1, 6 => 4, _ => _random.Next(64) };
        for (int i = 0; i < rounds; i++)
        {
            await Task.Yield();
        }
    }

    /// <inheritdoc/>
    public override void Post(SendOrPostCallback d, object? state)
    {
        if (Environment.CurrentManagedThreadId != _thread)
        {
            throw new InvalidOperationException("a continuation came from another thread: the run cannot be repeated");
        }

        _ready.Add((d, state));
    }

    /// <inheritdoc/>
    public override void Send(SendOrPostCallback d, object? state) => d(state);

    private void PumpUntil(Task task)
    {
        while (!task.IsCompleted)
        {
            if (_ready.Count == 0)
            {
                throw new InvalidOperationException($"nothing can run after {Steps} steps: deadlock");
            }

            if (Steps++ > StepsMax)
            {
                throw new InvalidOperationException("the simulation does not end");
            }

            int index = _random.Next(_ready.Count);
            (SendOrPostCallback callback, object? state) = _ready[index];
            // The order of the list means nothing, so the last one may take the free place.
            _ready[index] = _ready[^1];
            _ready.RemoveAt(_ready.Count - 1);
            Trace = (Trace ^ (uint)index ^ ((ulong)_ready.Count << 32)) * 1099511628211;
            callback(state);
        }

        Debug.Assert(task.IsCompleted);
    }
}
