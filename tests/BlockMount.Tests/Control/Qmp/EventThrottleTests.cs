using BlockMount.Control.Json;
using BlockMount.Control.Qmp;
using BlockMount.Control.Schema;
using Xunit;

namespace BlockMount.Tests.Control.Qmp;

/// <summary>Events that are let through once a second, on a clock that the test moves.</summary>
public sealed class EventThrottleTests
{
    private readonly ManualTime _time = new();
    private readonly List<string> _received = [];
    private readonly QmpEvents _events;

    public EventThrottleTests()
    {
        _events = new QmpEvents(CommandSchema.Own, _time);
        _events.Add(message => _received.Add($"{message.Object("data")!.Text("device")} {message.Object("data")!.Text("reason")}"));
    }

    [Fact]
    public void TheFirstOfASecondComesAtOnceAndTheLastAtItsEnd()
    {
        Emit("d0", "a");
        Emit("d0", "b");
        Emit("d0", "c");
        Assert.Equal(["d0 a"], _received);
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(["d0 a", "d0 c"], _received);
        Emit("d0", "d");
        Assert.Equal(2, _received.Count);
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(["d0 a", "d0 c", "d0 d"], _received);
        _time.Advance(TimeSpan.FromSeconds(1));
        Emit("d0", "e");
        Assert.Equal("d0 e", _received[^1]);
    }

    [Fact]
    public void DevicesDoNotHoldBackEachOther()
    {
        Emit("d0", "a");
        Emit("d1", "b");
        Assert.Equal(["d0 a", "d1 b"], _received);
    }

    [Fact]
    public void ADeviceThatStopsIsToldOfAtOnce()
    {
        Emit("d0", "a", "stop");
        Emit("d0", "b", "stop");
        Assert.Equal(["d0 a", "d0 b"], _received);
    }

    [Fact]
    public void TheClockOfAnEventIsTheOneOfItsCause()
    {
        JsonObject? last = null;
        _events.Add(message => last = message);
        Emit("d0", "a");
        Emit("d0", "b");
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(ManualTime.Start.ToUnixTimeSeconds(), last!.Object("timestamp")!.Integer("seconds"));
    }

    [Fact]
    public void AnEventThatIsNotDescribedIsAnError() => Assert.Throws<ArgumentException>(() => _events.Emit("NOPE"));

    private void Emit(string device, string reason, string action = "report") => _events.Emit("BLOCK_IO_ERROR", new JsonObject
    {
        ["device"] = device,
        ["operation"] = "write",
        ["action"] = action,
        ["reason"] = reason,
    });

    /// <summary>A clock with one-shot timers that fire when it is moved past them.</summary>
    private sealed class ManualTime : TimeProvider
    {
        public static readonly DateTimeOffset Start = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

        private readonly List<ManualTimer> _timers = [];

        public DateTimeOffset Now { get; private set; } = Start;

        public override DateTimeOffset GetUtcNow() => Now;

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            ManualTimer timer = new(this, callback);
            _timers.Add(timer);
            _ = timer.Change(dueTime, period);
            return timer;
        }

        public void Advance(TimeSpan by)
        {
            Now += by;
            foreach (ManualTimer timer in _timers.Where(timer => timer.Due <= Now).ToArray())
            {
                timer.Fire();
            }
        }

        private sealed class ManualTimer(ManualTime time, TimerCallback callback) : ITimer
        {
            public DateTimeOffset Due { get; private set; } = DateTimeOffset.MaxValue;

            public bool Change(TimeSpan dueTime, TimeSpan period)
            {
                Due = time.Now + dueTime;
                return true;
            }

            public void Fire()
            {
                Due = DateTimeOffset.MaxValue;
                callback(null);
            }

            public void Dispose() => Due = DateTimeOffset.MaxValue;

            public ValueTask DisposeAsync()
            {
                Dispose();
                return ValueTask.CompletedTask;
            }
        }
    }
}
