using BlockMount.Base;

namespace BlockMount.TestSupport.Simulation;

/// <summary>
/// Runs several asynchronous operations on the calling thread, one step at a time, in the order that a <see cref="ScheduleChooser"/> decides. Each operation
/// has a synchronization context of its own, so that the owner of every continuation is known; storage calls come through <see cref="ScheduledFile"/>.
/// Everything that is awaited must complete through these two (no thread pool, no timers but those of a <see cref="ManualTime"/>): then a run is a pure function of its choices.
/// </summary>
public sealed class Scheduler
{
    // Far above what a handful of operations needs: a schedule that gets here does not end.
    private const int StepsMax = 200_000;

    private readonly int _thread = Environment.CurrentManagedThreadId;
    private readonly List<ScheduleStep> _possible = [];
    private readonly List<Waiting> _waiting = [];
    private readonly List<Operation> _operations = [];
    private readonly List<string>? _log;
    private readonly List<int> _choices = [];

    /// <param name="log">Gets a line for each step; null for none.</param>
    public Scheduler(List<string>? log = null)
    {
        _log = log;
    }

    /// <summary>The operation whose code is running now; -1 when none is.</summary>
    public int Current { get; private set; } = -1;

    /// <summary>The choices made so far: they replay the schedule.</summary>
    public IReadOnlyList<int> Choices => _choices;

    /// <summary>The storage call that fails: operation, and which of its calls (from 1). Null for none.</summary>
    public (int Operation, int Call)? Fault { get; init; }

    /// <summary>The fault has happened.</summary>
    public bool FaultHit { get; private set; }

    /// <summary>Adds an operation; its first step is possible at once. Operations are numbered from 0.</summary>
    public void Start(Func<Task> body)
    {
        Operation operation = new(this, _operations.Count);
        _operations.Add(operation);
        Add(operation.NextRun(), new Waiting(_ => operation.Body = body()));
    }

    /// <summary>Takes steps until every operation has ended.</summary>
    /// <returns>What the operations ended with, by number; null for success.</returns>
    /// <exception cref="SimulationException">A deadlock, a schedule without an end, or a continuation from another thread.</exception>
    public Exception?[] RunToEnd(ScheduleChooser chooser)
    {
        SynchronizationContext? before = SynchronizationContext.Current;
        try
        {
            while (_operations.Exists(operation => operation.Body is null or { IsCompleted: false }))
            {
                if (_possible.Count == 0)
                {
                    throw new SimulationException($"deadlock: nothing can happen after {_choices.Count} steps, and an operation has not ended");
                }

                if (_choices.Count > StepsMax)
                {
                    throw new SimulationException("the schedule does not end");
                }

                TakeStep(chooser.Choose(_possible));
            }
        }
        finally
        {
            Current = -1;
            SynchronizationContext.SetSynchronizationContext(before);
        }

        if (_possible.Count > 0)
        {
            throw new SimulationException($"every operation has ended, but this remains: {_possible[0]}");
        }

        return [.. _operations.Select(operation => operation.Body!.Exception?.InnerException)];
    }

    /// <summary>Makes a storage call of the running operation: it waits until its step is taken.</summary>
    internal Task CallAsync(int file, StorageCalls call, long offset, long length, bool changesLength, Func<ValueTask> effect)
    {
        CheckThread();
        Operation operation = _operations[Current];
        operation.Calls++;
        bool fails = Fault == (operation.Number, operation.Calls);
        TaskCompletionSource ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
        ScheduleStep step = new(operation.Number, operation.Steps++, ScheduleStepKind.Effect, call, offset, length, changesLength, file);
        Add(step, new Waiting(Effect: fails ? Fail : effect, Ended: ended));
        return ended.Task;

        ValueTask Fail()
        {
            FaultHit = true;
            throw new BlockIOException(Errno.EIO, $"{call} of {length} bytes at {offset} (injected)");
        }
    }

    private void TakeStep(int index)
    {
        ScheduleStep step = _possible[index];
        Waiting waiting = _waiting[index];
        _possible.RemoveAt(index);
        _waiting.RemoveAt(index);
        _choices.Add(index);
        _log?.Add(step.ToString());
        if (step.Kind == ScheduleStepKind.Run)
        {
            Current = step.Operation;
            SynchronizationContext.SetSynchronizationContext(_operations[step.Operation]);
            waiting.Callback!(waiting.State);
            Current = -1;
            return;
        }

        try
        {
            ValueTask effect = waiting.Effect!();
            if (!effect.IsCompleted)
            {
                throw new SimulationException("a file in memory makes somebody wait");
            }

            effect.GetAwaiter().GetResult();
            waiting.Ended!.SetResult();
        }
        catch (BlockIOException error)
        {
            waiting.Ended!.SetException(error);
        }
    }

    private void Add(in ScheduleStep step, Waiting waiting)
    {
        _possible.Add(step);
        _waiting.Add(waiting);
    }

    private void CheckThread()
    {
        if (Environment.CurrentManagedThreadId != _thread)
        {
            throw new SimulationException("a continuation came from another thread: the run cannot be repeated");
        }
    }

    // Run: Callback and State. Effect: Effect and Ended.
    private readonly record struct Waiting(
        SendOrPostCallback? Callback = null, object? State = null, Func<ValueTask>? Effect = null, TaskCompletionSource? Ended = null);

    private sealed class Operation(Scheduler owner, int number) : SynchronizationContext
    {
        internal int Number { get; } = number;

        internal Task? Body { get; set; }

        internal int Steps { get; set; }

        internal int Calls { get; set; }

        internal ScheduleStep NextRun() => new(Number, Steps++, ScheduleStepKind.Run);

        public override void Post(SendOrPostCallback d, object? state)
        {
            owner.CheckThread();
            owner.Add(NextRun(), new Waiting(d, state));
        }

        public override void Send(SendOrPostCallback d, object? state) => d(state);
    }
}

/// <summary>The simulation found that the code under test does what no schedule may do.</summary>
public sealed class SimulationException(string message) : Exception(message);
