using BlockMount.Base;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Storage;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Crash;
using BlockMount.TestSupport.Faults;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using BlockMount.TestSupport.Mutants;

namespace BlockMount.Tests.FailNth;

/// <summary>
/// One operation on a prepared image with one storage call failing: the operation, the close after it, or both may fail, and only with a
/// <see cref="BlockMountException"/>. Afterwards the image is not corrupt and holds old or new data; new data where nothing was reported.
/// </summary>
internal sealed class FailNthRun
{
    private const int SectorSize = 512;

    private readonly TestChain _chain;
    private readonly byte[] _preparedFile;
    private readonly byte[]? _preparedData;
    private readonly DiskModel _before;
    private readonly Func<Mutant>? _createMutant;

    private FailNthRun(TestChain chain, byte[] preparedFile, DiskModel before, Func<Mutant>? createMutant)
    {
        _createMutant = createMutant;
        _chain = chain;
        _preparedFile = preparedFile;
        _preparedData = chain.Data?.ToArray();
        _before = before;
    }

    /// <summary>Builds the chain and runs <paramref name="preparation"/> on it.</summary>
    /// <param name="createMutant">Makes the mistake for each run with a failing call; null for none.</param>
    internal static async Task<FailNthRun> PrepareAsync(
        ImageGeometry geometry, IReadOnlyList<GuestOperation> preparation, Func<Mutant>? createMutant = null)
    {
        TestChain chain = await TestChain.CreateAsync(geometry, seed: 7);
        TestDisk disk = await chain.OpenDiskAsync(chain.Top.Reopen());
        foreach (GuestOperation operation in preparation)
        {
            GuestOperation clipped = operation.ClippedTo(disk.Device.Size);
            if (!clipped.IsEmpty)
            {
                await disk.ApplyAsync(clipped, new byte[clipped.Length]);
            }
        }

        // What a discard leaves is the disk's decision.
        byte[] content = new byte[disk.Device.Size];
        await disk.Device.ReadAsync(0, content);
        await disk.DisposeAsync();
        return new FailNthRun(chain, chain.Top.ToArray(), new DiskModel(content), createMutant);
    }

    /// <summary>Starts from a chain whose top has a history.</summary>
    internal static FailNthRun On(TestChain chain) => new(chain, chain.Top.ToArray(), new DiskModel(chain.InitialContent), createMutant: null);

    /// <summary>Size of the prepared disk in bytes.</summary>
    internal int Size => _before.Size;

    /// <summary>Runs <paramref name="operation"/> with each storage call failing in turn, until there is none left to fail.</summary>
    /// <param name="fromOpen">Calls made by opening the image fail, too.</param>
    /// <param name="onDataFile">The calls are those of the data file instead of the image's.</param>
    /// <returns>How many different calls failed.</returns>
    internal async Task<int> FailEveryCallAsync(GuestOperation operation, FaultPlan plan, bool fromOpen, bool onDataFile = false)
    {
        int number = 1;
        while (await FailOneAsync(operation, plan with { FailFrom = number }, fromOpen, onDataFile))
        {
            number++;
        }

        return number - 1;
    }

    private async Task<bool> FailOneAsync(GuestOperation operation, FaultPlan plan, bool fromOpen, bool onDataFile)
    {
        MemoryFile memory = new("top", readOnly: false, _preparedFile);
        MemoryFile? data = _preparedData is null ? null : new("data", readOnly: false, _preparedData);
        MemoryFile? dataHandle = data?.Reopen();
        FaultyFile faulty = new(onDataFile ? dataHandle! : memory, fromOpen ? plan : null);
        bool everythingSucceeded = true;
        try
        {
            everythingSucceeded = await RunAsync(
                operation, onDataFile ? memory : faulty, onDataFile ? faulty : dataHandle, faulty, plan, fromOpen);
        }
        catch (BlockMountException)
        {
            everythingSucceeded = false;
        }

        Assert(memory.IsDisposed && dataHandle?.IsDisposed != false, plan, "the file was not closed");
        await JudgeAsync(memory, data, operation, plan, everythingSucceeded);
        return faulty.Faults > 0;
    }

    private async Task<bool> RunAsync(
        GuestOperation operation, StorageFile top, StorageFile? data, FaultyFile faulty, FaultPlan plan, bool fromOpen)
    {
        TestDisk disk = await _chain.OpenDiskAsync(top, _createMutant?.Invoke(), data);
        if (!fromOpen)
        {
            faulty.SetPlan(plan);
        }

        bool succeeded = await SucceedsAsync(() => operation.Kind == GuestOperationKind.Read
            ? ReadAsync(disk, operation, plan)
            : disk.ApplyAsync(operation));
        return await SucceedsAsync(disk.DisposeAsync) && succeeded;
    }

    private static async Task<bool> SucceedsAsync(Func<ValueTask> action)
    {
        try
        {
            await action();
            return true;
        }
        catch (BlockMountException)
        {
            return false;
        }
    }

    // A read that succeeds must have read the right bytes.
    private async ValueTask ReadAsync(TestDisk disk, GuestOperation operation, FaultPlan plan)
    {
        byte[] read = new byte[operation.Length];
        await disk.ApplyAsync(operation, read);
        Assert(read.AsSpan().SequenceEqual(_before.Content.Span.Slice((int)operation.Offset, operation.Length)), plan, "the read succeeded with wrong bytes");
    }

    private async Task JudgeAsync(MemoryFile memory, MemoryFile? data, GuestOperation operation, FaultPlan plan, bool succeeded)
    {
        CheckReport report = await ConsistencyCheck.RunAsync(memory.Reopen(readOnly: true));
        // An image that was not closed may have stale refcounts, if it says so.
        Assert(report.Corruptions == 0 || CrashImage.Excuses(memory.Content, report), plan, report.ToString());
        TestDisk disk = await _chain.OpenDiskAsync(memory.Reopen(), data: data?.Reopen());
        byte[] after = new byte[disk.Device.Size];
        await disk.Device.ReadAsync(0, after);
        await disk.DisposeAsync();
        DiskModel expected = _before.Clone();
        expected.Apply(operation);
        Assert(after.Length == expected.Size || (!succeeded && after.Length == _before.Size), plan, $"the disk has {after.Length} bytes");
        for (int offset = 0; offset < after.Length; offset += SectorSize)
        {
            ReadOnlySpan<byte> sector = after.AsSpan(offset, SectorSize);
            bool isNew = offset < expected.Size && sector.SequenceEqual(expected.Content.Span.Slice(offset, SectorSize));
            bool mayBeOld = (!succeeded || operation.Kind == GuestOperationKind.Discard) && offset < _before.Size;
            bool isOld = mayBeOld && sector.SequenceEqual(_before.Content.Span.Slice(offset, SectorSize));
            Assert(isNew || isOld, plan, $"the sector at {offset} holds neither old nor new data (operation {(succeeded ? "succeeded" : "failed")})");
        }

        CheckReport closed = await ConsistencyCheck.RunAsync(memory.Reopen(readOnly: true));
        Assert(closed.Corruptions == 0, plan, closed.ToString());
    }

    private void Assert(bool condition, FaultPlan plan, string message)
    {
        if (!condition)
        {
            throw new ModelMismatchException($"{plan}: {message}\n{_chain.Geometry}");
        }
    }
}
