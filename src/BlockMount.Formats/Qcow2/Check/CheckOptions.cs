namespace BlockMount.Formats.Qcow2.Check;

/// <summary>How a check is done. Immutable.</summary>
public sealed record CheckOptions
{
    /// <summary>Called now and then with the part of the work that is done, from 0 to 1; null for nobody.</summary>
    public Action<double>? Progress { get; init; }
}
