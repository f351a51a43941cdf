namespace BlockMount.TestSupport.Simulation;

/// <summary>What a step of a schedule does.</summary>
public enum ScheduleStepKind
{
    /// <summary>Code of an operation runs from where it waited to where it waits again.</summary>
    Run,

    /// <summary>A storage call takes effect and ends; its caller runs on in a step of its own.</summary>
    Effect,
}

/// <summary>One thing that can happen next. Steps are named by their operation and their number within it, which do not depend on the order of others.</summary>
/// <param name="Operation">Index of the operation (client) that the step belongs to.</param>
/// <param name="Number">Counts the operation's steps in the order in which they became possible.</param>
/// <param name="Call">For Effect: the kind of call.</param>
/// <param name="Offset">For Effect: first byte of the file that the call touches.</param>
/// <param name="Length">For Effect: bytes that it touches; 0 for a flush.</param>
/// <param name="ChangesLength">For Effect: the file may become longer or shorter by it.</param>
/// <param name="File">For Effect: number of the file.</param>
public readonly record struct ScheduleStep(
    int Operation, int Number, ScheduleStepKind Kind, StorageCalls Call = StorageCalls.None, long Offset = 0, long Length = 0, bool ChangesLength = false,
    int File = 0)
{
    /// <summary>The two are the same step, seen in two schedules.</summary>
    public bool IsSameAs(in ScheduleStep other) => Operation == other.Operation && Number == other.Number;

    /// <summary>
    /// False if the two can be swapped, where both are possible, without anybody ever seeing a difference. What this assumes:
    /// <list type="bullet">
    /// <item>code of different operations shares memory, so two Run steps never commute;</item>
    /// <item>code sees the file through its calls alone, and through its length, which it reads at any time: an Effect commutes with a Run step of
    /// another operation unless it may change the length. Buffers belong to one call from its beginning to its end;</item>
    /// <item>two Effects commute if they touch different bytes, or if neither changes any; a flush changes nothing that anybody can read.</item>
    /// </list>
    /// </summary>
    public bool DependsOn(in ScheduleStep other)
    {
        if (Operation == other.Operation)
        {
            return true;
        }

        if (Kind == ScheduleStepKind.Run || other.Kind == ScheduleStepKind.Run)
        {
            return Kind == other.Kind || ChangesLength || other.ChangesLength;
        }

        bool changes = ((Call | other.Call) & StorageCalls.Changes) != 0;
        return changes && File == other.File && Offset < other.Offset + other.Length && other.Offset < Offset + Length;
    }

    public override string ToString() => Kind == ScheduleStepKind.Run
        ? $"operation {Operation} runs (step {Number})"
        : $"operation {Operation}: {Call} at {Offset} + {Length} of file {File} takes effect (step {Number})";
}
