using System.Diagnostics;

namespace BlockMount.Base.Async;

/// <summary>
/// Decides whether a thread that waits for the next request looks for it for a few microseconds before it sleeps. Being woken costs
/// more than that wait, so a client that sends one request after the other is served about twice as fast; but looking in vain costs processor
/// time, so it is done only while it pays: each success earns credit, each failure costs more than one, and without credit only one wait in
/// <see cref="ProbeInterval"/> looks at all. An idle or slow client costs next to nothing. Not thread-safe: one object for each thread.
/// </summary>
public sealed class AdaptivePolling
{
    /// <summary>Without credit, one in so many waits polls, to find out whether it would pay now.</summary>
    public const int ProbeInterval = 32;

    private const int CreditMax = 32;
    private const int FailureCost = 8;

    // On one processor whoever is waited for cannot run meanwhile.
    private static readonly bool s_pays = Environment.ProcessorCount > 1;

    private static readonly long s_durationTicks = (long)(Stopwatch.Frequency * 30e-6);

    private int _credit = CreditMax;
    private int _waits;

    /// <summary>True if this wait should begin with polling. Then report how it ended.</summary>
    public bool ShouldPoll() => s_pays && (_credit > 0 || ++_waits % ProbeInterval == 0);

    /// <summary>When polling that begins now should give up, as a <see cref="Stopwatch"/> time stamp: 30 microseconds from now.</summary>
    public static long Deadline() => Stopwatch.GetTimestamp() + s_durationTicks;

    /// <summary>Polling found a request.</summary>
    public void Succeeded() => _credit = Math.Min(_credit + 1, CreditMax);

    /// <summary>Polling ended at its deadline.</summary>
    public void Failed() => _credit = Math.Max(_credit - FailureCost, 0);
}
