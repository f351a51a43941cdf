using BlockMount.Base;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Crash;
using BlockMount.TestSupport.Faults;
using BlockMount.TestSupport.Simulation;
using Xunit;

namespace BlockMount.Tests.Simulation;

/// <summary>The test storage does what the harnesses rely on.</summary>
public sealed class CrashImagesTests
{
    private readonly StorageLog _log = new();

    [Fact]
    public async Task WriteBeforeAFlush_IsInEveryState()
    {
        RecordingFile file = New();
        await file.WriteAsync(0, Filled(1, 512));
        await file.FlushAsync();
        await file.WriteAsync(512, Filled(2, 512));
        HashSet<(int, int, int)> states = States(_log.Now);
        Assert.All(states, state => Assert.Equal(1, state.Item1));
        Assert.Contains((1, 2, 1024), states);
        Assert.Contains((1, 0, 512), states);
    }

    [Fact]
    public async Task UnflushedWrites_AppearInEveryCombination()
    {
        RecordingFile file = New();
        await file.WriteAsync(0, Filled(1, 512));
        await file.WriteAsync(512, Filled(2, 512));
        HashSet<(int, int, int)> states = States(_log.Now);
        Assert.Superset(new HashSet<(int, int, int)> { (0, 0, 0), (1, 0, 512), (0, 2, 1024), (1, 2, 1024) }, states);
        // The length may be lost although the data arrived, and arrive although the data was lost.
        Assert.Contains((1, 0, 1024), states);
    }

    [Fact]
    public async Task UnflushedWrite_IsTornAtSectors()
    {
        RecordingFile file = New();
        await file.WriteAsync(0, Filled(3, 1024));
        HashSet<(int, int, int)> states = States(_log.Now);
        Assert.Contains((3, 0, 1024), states);
        Assert.Contains((0, 3, 1024), states);
    }

    [Fact]
    public async Task PartOfASector_CarriesTheRestAlong()
    {
        RecordingFile file = New();
        await file.WriteAsync(0, Filled(1, 512));
        await file.WriteAsync(100, Filled(2, 8));
        CrashImages images = new(_log, default);
        images.AdvanceTo(_log.Now);
        for (int number = 0; number < 50; number++)
        {
            CrashImage image = images.Draw(number, new Random(number));
            Assert.True(image.Length == 0 || image.Bytes[100] != 2 || image.Bytes[0] == 1);
        }
    }

    [Fact]
    public async Task FailingCall_FailsOnceOrForEver()
    {
        FaultyFile file = new(new MemoryFile(), new FaultPlan { FailFrom = 2, Calls = StorageCalls.Write, Errno = Errno.ENOSPC });
        await file.WriteAsync(0, Filled(1, 512));
        BlockIOException error = await Assert.ThrowsAsync<BlockIOException>(async () => await file.WriteAsync(0, Filled(2, 512)));
        Assert.Equal(Errno.ENOSPC, error.Errno);
        await file.WriteAsync(0, Filled(3, 512));
        file.SetPlan(new FaultPlan { FailFrom = 1, Forever = true, Calls = StorageCalls.Flush });
        await Assert.ThrowsAsync<BlockIOException>(async () => await file.FlushAsync());
        file.SetPlan(null);
        // As the contract of a file says: after a failed flush none succeeds.
        await Assert.ThrowsAsync<BlockIOException>(async () => await file.FlushAsync());
    }

    [Fact]
    public void Wait_ForSomethingThatNeverComes_IsReportedAsDeadlock()
    {
        TaskCompletionSource never = new(TaskCreationOptions.RunContinuationsAsynchronously);
        Assert.Throws<InvalidOperationException>(() => SimulationContext.Run(1, async _ => await never.Task));
    }

    [Fact]
    public async Task ClosedFile_ReportsUse()
    {
        MemoryFile file = new();
        await file.DisposeAsync();
        await Assert.ThrowsAsync<InvalidOperationException>(async () => await file.ReadAsync(0, new byte[1]));
        await Assert.ThrowsAsync<InvalidOperationException>(async () => await file.DisposeAsync());
    }

    private RecordingFile New() => new(new MemoryFile(), _log);

    private static byte[] Filled(byte value, int length)
    {
        byte[] bytes = new byte[length];
        bytes.AsSpan().Fill(value);
        return bytes;
    }

    // First byte of the first and of the second sector, and the length.
    private HashSet<(int, int, int)> States(long cut)
    {
        CrashImages images = new(_log, default);
        images.AdvanceTo(cut);
        HashSet<(int, int, int)> states = [];
        for (int number = 0; number < 200; number++)
        {
            CrashImage image = images.Draw(number, new Random(number));
            states.Add((image.Bytes[0], image.Bytes[512], (int)image.Length));
        }

        return states;
    }
}
