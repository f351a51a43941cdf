using System.Globalization;

namespace BlockMount.TestSupport.Simulation;

/// <summary>Names one schedule so that it can be repeated: "image/program+program/-/0.1.0", with "2:5" in the third place for a fault in the fifth call of program 2.</summary>
public sealed record ScheduleName(string Image, IReadOnlyList<string> Programs, (int Program, int Call)? Fault, IReadOnlyList<int> Choices)
{
    /// <summary>Reads what <see cref="ToString"/> writes.</summary>
    public static ScheduleName Parse(string text)
    {
        string[] parts = text.Split('/');
        string[] fault = parts[2].Split(':');
        return new ScheduleName(
            parts[0],
            parts[1].Split('+'),
            fault.Length == 2 ? (Number(fault[0]), Number(fault[1])) : null,
            [.. parts[3].Split('.', StringSplitOptions.RemoveEmptyEntries).Select(Number)]);
    }

    /// <inheritdoc/>
    public override string ToString()
    {
        string fault = Fault is { } at ? string.Create(CultureInfo.InvariantCulture, $"{at.Program}:{at.Call}") : "-";
        return $"{Image}/{string.Join('+', Programs)}/{fault}/{string.Join('.', Choices)}";
    }

    private static int Number(string text) => int.Parse(text, NumberStyles.None, CultureInfo.InvariantCulture);
}

/// <summary>A schedule failed. The message names it.</summary>
public sealed class ScheduleFailedException(Exception cause, ScheduleName schedule)
    : Exception($"{cause.Message}\nschedule: {schedule}", cause)
{
    /// <summary>The schedule up to the failure.</summary>
    public ScheduleName Schedule { get; } = schedule;
}
