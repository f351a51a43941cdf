namespace BlockMount.Daemon.Hosting;

/// <summary>Takes a daemon down step by step: every step is taken whatever became of the one before, and the first failure is the one to tell. One thread at a time.</summary>
internal sealed class ClosingSteps
{
    /// <summary>What failed first, and may have cost data; null when nothing has.</summary>
    public string? FirstFailure { get; private set; }

    /// <summary>Takes a step.</summary>
    public async ValueTask TakeAsync(Func<ValueTask> step)
    {
        try
        {
            await step();
        }
        catch (Exception error)
        {
            // Whatever it is, the steps that follow keep the locks and the mount from staying behind.
            FirstFailure ??= error.Message;
        }
    }
}
