using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using BlockMount.TestSupport.Mutants;

namespace BlockMount.TestSupport.Crash;

/// <summary>
/// Runs guest operations on a chain whose top is recorded, and keeps a <see cref="ReferenceImage"/> of what the guest may see. Either one operation
/// after the other, or several in flight under a <see cref="Simulation.SimulationContext"/>.
/// </summary>
public sealed class CrashWorkload
{
    private readonly TestChain _chain;
    private readonly MemoryFile _top;
    private readonly MemoryFile? _data;
    private readonly Func<ValueTask>? _pause;
    private readonly Mutant? _mutant;
    private readonly SnapshotModel _snapshots;
    private ObservedDisk _disk = null!;

    private CrashWorkload(
        TestChain chain, MemoryFile top, MemoryFile? data, ReadOnlySpan<byte> content, long sizeMax, Func<ValueTask>? pause, Mutant? mutant)
    {
        _chain = chain;
        _top = top;
        _data = data;
        DataLog = data is null ? null : new StorageLog(Log);
        InitialData = data?.ToArray() ?? [];
        _pause = pause;
        _mutant = mutant;
        _snapshots = new SnapshotModel(chain, top);
        InitialFile = top.ToArray();
        Reference = new ReferenceImage(sizeMax, content, Log.Tick);
    }

    /// <summary>What the file went through.</summary>
    public StorageLog Log { get; } = new();

    /// <summary>What the data file went through, on the same clock; null if there is none.</summary>
    public StorageLog? DataLog { get; }

    /// <summary>The data file before the first operation.</summary>
    public byte[] InitialData { get; }

    /// <summary>The top image before the first operation.</summary>
    public byte[] InitialFile { get; }

    /// <summary>What the guest may see.</summary>
    public ReferenceImage Reference { get; }

    /// <summary>Starts on the chain as it was created.</summary>
    /// <param name="sizeMax">The largest size the disk will have, in bytes; a multiple of 512.</param>
    /// <param name="mutant">A mistake for the top image; null for none.</param>
    public static ValueTask<CrashWorkload> OpenAsync(TestChain chain, long sizeMax, Func<ValueTask>? pause = null, Mutant? mutant = null) =>
        OpenAsync(
            chain,
            new MemoryFile("top", readOnly: false, chain.Top.Content),
            chain.Data is null ? null : new MemoryFile("data", readOnly: false, chain.Data.Content),
            chain.InitialContent,
            sizeMax,
            pause,
            mutant);

    /// <summary>Starts on a top image with another history, which reads as <paramref name="content"/> and is durable.</summary>
    /// <param name="data">Its data file; null if it has none.</param>
    public static async ValueTask<CrashWorkload> OpenAsync(
        TestChain chain,
        MemoryFile top,
        MemoryFile? data,
        ReadOnlyMemory<byte> content,
        long sizeMax,
        Func<ValueTask>? pause = null,
        Mutant? mutant = null)
    {
        CrashWorkload workload = new(chain, top, data, content.Span, sizeMax, pause, mutant);
        await workload.ReopenAsync();
        return workload;
    }

    /// <summary>Runs one operation to its end.</summary>
    /// <exception cref="ModelMismatchException">The guest saw what it may not see.</exception>
    public async ValueTask RunAsync(GuestOperation operation)
    {
        if (operation.Kind == GuestOperationKind.Reopen)
        {
            await CloseAsync();
            await ReopenAsync();
        }
        else
        {
            await _disk.RunAsync(operation);
        }
    }

    /// <summary>Closes the image cleanly, which is a flush too.</summary>
    public ValueTask CloseAsync() => _disk.CloseAsync();

    /// <summary>The disk's size now, in bytes.</summary>
    public long Size => _disk.Size;

    /// <summary>The top image now.</summary>
    public MemoryFile Top => _top.Reopen(readOnly: true);

    private async ValueTask ReopenAsync()
    {
        RecordingFile? data = _data is null ? null : new RecordingFile(_data.Reopen(), DataLog!, _pause);
        TestDisk disk = await _chain.OpenDiskAsync(new RecordingFile(_top.Reopen(), Log, _pause), _mutant, data);
        _disk = new ObservedDisk(disk, Reference, Log.Tick, concurrent: _pause is not null) { Snapshots = _snapshots };
    }
}
