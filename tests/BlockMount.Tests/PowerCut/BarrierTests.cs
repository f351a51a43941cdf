using BlockMount.TestSupport;
using BlockMount.TestSupport.Crash;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.PowerCut;

/// <summary>
/// Proves the power cut harness: with one flush made a lie for each rule of the write order, it finds the violation that the rule prevents; with every
/// flush honest it finds none.
/// </summary>
public sealed class BarrierTests(ITestOutputHelper output)
{
    private const int Cluster = 4096;

    private static readonly ImageGeometry s_geometry = new() { ClusterBits = 12, Size = 8 * Cluster, TinyCache = false };

    [Fact]
    public async Task I2_FlushBetweenDataAndItsTableLost_OlderContentShowsThrough()
    {
        // The new data goes into a preallocated zero cluster, which still holds what it held before it was zeroed; no refcount changes.
        GuestOperation[] operations =
        [
            Write(0, Cluster),
            new(GuestOperationKind.Zero, 0, Cluster, 0),
            Flush,
            Write(1000, 500),
            Flush,
        ];
        await ProveAsync(operations, guestFlush: 1, storageFlush: 0, CrashFault.ForeignSector);
    }

    [Fact]
    public async Task I3_FlushBetweenRefcountsAndTablesLost_RefcountIsTooLow()
    {
        // The write gets a cluster that was freed, inside the file, so that nothing but its refcount needs the flush.
        GuestOperation[] operations = [Write(0, 2 * Cluster), Flush, Discard, Flush, Flush, Write(3 * Cluster, Cluster), Flush];
        await ProveAsync(operations, guestFlush: 3, storageFlush: 0, CrashFault.Corrupt);
    }

    [Fact]
    public async Task I4_FlushBetweenTablesAndReleaseLost_RefcountIsTooLow()
    {
        // The second flush writes the refcounts of what the first one made unreachable.
        GuestOperation[] operations = [Write(0, 2 * Cluster), Flush, Discard, Flush, Flush];
        await ProveAsync(operations, guestFlush: 1, storageFlush: -1, CrashFault.Corrupt);
    }

    // The same with the data in another file: its flush comes before the entries are written.
    [Fact]
    public async Task I2_FlushOfTheDataFileLost_OlderContentShowsThrough()
    {
        GuestOperation[] operations = [Write(0, Cluster), new(GuestOperationKind.Zero, 0, Cluster, 0), Flush, Write(1000, 500), Flush];
        PowerCutRun run = await PowerCutRun.OfAsync(seed: 5, s_geometry with { DataFile = DataFileKind.Plain }, operations);
        (int states, CrashVerdict honest) = await run.JudgeAsync();
        Assert.True(honest.IsGood, honest.Description);
        StorageLogEntry lost = run.DataFlushOf(1);
        (int until, CrashVerdict verdict) = await run.JudgeAsync(entry => entry == lost, wanted: CrashFault.ForeignSector);
        Assert.Equal(CrashFault.ForeignSector, verdict.Fault);
        output.WriteLine($"honest: {states} states; found after {until} states: {verdict.Description}");
    }

    [Fact]
    public async Task GuestFlushLost_FlushedDataIsMissing()
    {
        GuestOperation[] operations = [Write(0, Cluster), Flush, Write(100, 700), Flush, Write(2 * Cluster, 512)];
        await ProveAsync(operations, guestFlush: 1, storageFlush: -1, CrashFault.ForeignSector);
    }

    [Fact]
    public async Task AnyFlushLost_InRandomWorkloads_IsFoundWhereItMatters()
    {
        int lost = 0;
        int found = 0;
        foreach (int seed in TestBudget.Seeds(30_000, 6))
        {
            PowerCutRun run = await PowerCutRun.SequentialAsync(seed);
            StorageLogEntry[] flushes = [.. run.Log.Entries.Where(entry => entry.Kind == StorageCalls.Flush)];
            for (int i = 0; i < flushes.Length; i += 4)
            {
                lost++;
                found += (await run.JudgeAsync(entry => entry == flushes[i])).Verdict.IsGood ? 0 : 1;
            }
        }

        output.WriteLine($"{found} of {lost} lost flushes found");
        // Many a flush cannot be missed: there was nothing to flush, or another one follows at once.
        Assert.True(found > 0 || lost < 10, $"{found} of {lost}");
    }

    private static GuestOperation Discard => new(GuestOperationKind.Discard, 0, Cluster, 0);

    private static GuestOperation Flush => new(GuestOperationKind.Flush, 0, 0, 0);

    private static GuestOperation Write(long offset, int length) => new(GuestOperationKind.Write, offset, length, (int)offset + length);

    // storageFlush counts the storage flushes of one guest flush; -1 is the last.
    private async Task ProveAsync(GuestOperation[] operations, int guestFlush, int storageFlush, CrashFault expected)
    {
        PowerCutRun run = await PowerCutRun.OfAsync(seed: 5, s_geometry, operations);
        (int states, CrashVerdict honest) = await run.JudgeAsync();
        Assert.True(honest.IsGood, honest.Description);
        StorageLogEntry lost = run.FlushOf(guestFlush, storageFlush);
        (int until, CrashVerdict verdict) = await run.JudgeAsync(entry => entry == lost, wanted: expected);
        Assert.Equal(expected, verdict.Fault);
        output.WriteLine($"honest: {states} states; found after {until} states: {verdict.Description}");
    }
}
