using BlockMount.Base.Async;
using BlockMount.Storage;
using Xunit;

namespace BlockMount.Tests.Storage;

public sealed class AdaptiveEngineTests
{
    [Theory]
    [InlineData(1, "ring read, threads write")]
    [InlineData(2, "ring read, ring write")]
    [InlineData(9, "ring read, ring write")]
    public async Task LoneWrites_GoToAThread_EverythingElseToTheRing(int underWay, string calls)
    {
        List<string> log = [];
        RequestGate gate = new();
        for (int i = 0; i < underWay; i++)
        {
            Assert.True(gate.TryEnter());
        }

        AdaptiveEngine engine = new(new Recorder("ring", log), new Recorder("threads", log));
        await engine.StartRead(null!, gate, 0, new byte[1]);
        await engine.StartWrite(null!, gate, 0, new byte[1]);
        Assert.Equal(calls, string.Join(", ", log));
    }

    private sealed class Recorder(string name, List<string> log) : ITransferEngine
    {
        public ValueTask StartRead(ITransferTarget target, RequestGate gate, long offset, Memory<byte> buffer) => Log("read");

        public ValueTask StartWrite(ITransferTarget target, RequestGate gate, long offset, ReadOnlyMemory<byte> buffer) => Log("write");

        private ValueTask Log(string call)
        {
            log.Add($"{name} {call}");
            return ValueTask.CompletedTask;
        }
    }
}
