using BlockMount.Base;

namespace BlockMount.TestSupport.Faults;

/// <summary>Which call of a <see cref="FaultyFile"/> fails, and how.</summary>
public sealed record FaultPlan
{
    /// <summary>The kinds of calls that are counted and can fail.</summary>
    public StorageCalls Calls { get; init; } = StorageCalls.All;

    /// <summary>The first counted call that fails; the first call has number 1.</summary>
    public required long FailFrom { get; init; }

    /// <summary>Every counted call from <see cref="FailFrom"/> on fails, instead of only that one.</summary>
    public bool Forever { get; init; }

    /// <summary>The error.</summary>
    public Errno Errno { get; init; } = Errno.EIO;

    /// <summary>A failing transfer first does a prefix: of a write about half arrives in the file, of a read in the buffer.</summary>
    public bool ShortTransfer { get; init; }
}
