using BlockMount.Block.Devices;
using BlockMount.Formats;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using BlockMount.TestSupport.Mutants;
using BlockMount.TestSupport.Simulation;

namespace BlockMount.TestSupport.Crash;

/// <summary>
/// Runs guest operations on a chain whose top is recorded, and keeps a <see cref="ReferenceImage"/> of what the guest may see. Either one operation
/// after the other, or several in flight under a <see cref="SimulationContext"/>.
/// </summary>
public sealed class CrashWorkload
{
    private readonly TestChain _chain;
    private readonly MemoryFile _top;
    private readonly Func<ValueTask>? _pause;
    private readonly Mutant? _mutant;
    private readonly SnapshotModel _snapshots;
    private BlockDevice _device = null!;

    private CrashWorkload(TestChain chain, MemoryFile top, ReadOnlySpan<byte> content, long sizeMax, Func<ValueTask>? pause, Mutant? mutant)
    {
        _chain = chain;
        _top = top;
        _pause = pause;
        _mutant = mutant;
        _snapshots = new SnapshotModel(chain);
        InitialFile = top.ToArray();
        Reference = new ReferenceImage(sizeMax, content, Log.Tick);
    }

    /// <summary>What the file went through.</summary>
    public StorageLog Log { get; } = new();

    /// <summary>The top image before the first operation.</summary>
    public byte[] InitialFile { get; }

    /// <summary>What the guest may see.</summary>
    public ReferenceImage Reference { get; }

    /// <summary>Starts on the chain as it was created.</summary>
    /// <param name="sizeMax">The largest size the disk will have, in bytes; a multiple of 512.</param>
    /// <param name="mutant">A mistake for the top image; null for none.</param>
    public static ValueTask<CrashWorkload> OpenAsync(TestChain chain, long sizeMax, Func<ValueTask>? pause = null, Mutant? mutant = null) =>
        OpenAsync(chain, new MemoryFile("top", readOnly: false, chain.Top.Content), chain.InitialContent, sizeMax, pause, mutant);

    /// <summary>Starts on a top image with another history, which reads as <paramref name="content"/> and is durable.</summary>
    public static async ValueTask<CrashWorkload> OpenAsync(
        TestChain chain, MemoryFile top, ReadOnlyMemory<byte> content, long sizeMax, Func<ValueTask>? pause = null, Mutant? mutant = null)
    {
        CrashWorkload workload = new(chain, top, content.Span, sizeMax, pause, mutant);
        await workload.ReopenAsync();
        return workload;
    }

    /// <summary>Runs one operation to its end.</summary>
    /// <exception cref="ModelMismatchException">The guest saw what it may not see.</exception>
    public async ValueTask RunAsync(GuestOperation operation)
    {
        operation = operation.ClippedTo(_device.Size);
        if (operation.Length == 0 && operation.Kind < GuestOperationKind.Flush)
        {
            return;
        }

        switch (operation.Kind)
        {
            case GuestOperationKind.Read:
                await ReadAsync(operation);
                break;
            case GuestOperationKind.Write:
                byte[] data = operation.Data();
                ReferenceImage.Change write = Reference.BeginWrite(operation.Offset, data);
                await _device.WriteAsync(operation.Offset, data);
                Reference.End(write);
                break;
            case GuestOperationKind.Zero:
            case GuestOperationKind.ZeroMayUnmap:
                ReferenceImage.Change zero = Reference.BeginZero(operation.Offset, operation.Length);
                await _device.ZeroAsync(
                    operation.Offset, operation.Length, operation.Kind == GuestOperationKind.Zero ? ZeroFlags.None : ZeroFlags.MayUnmap);
                Reference.End(zero);
                break;
            case GuestOperationKind.Discard:
                await DiscardAsync(operation);
                break;
            case GuestOperationKind.Flush:
                await FlushAsync();
                break;
            case GuestOperationKind.SnapshotCreate:
                await CreateSnapshotAsync(operation);
                break;
            case GuestOperationKind.SnapshotApply:
                await ApplySnapshotAsync(operation);
                break;
            case GuestOperationKind.SnapshotDelete:
                await DeleteSnapshotAsync(operation);
                break;
            case GuestOperationKind.Resize:
                if (_chain.Geometry.Version == 2 && _snapshots.Names.Count > 0)
                {
                    // The format does not allow it.
                    break;
                }

                ReferenceImage.Change resize = Reference.BeginResize(operation.Offset);
                await _device.ResizeAsync(operation.Offset);
                Reference.End(resize);
                break;
            default:
                await CloseAsync();
                await ReopenAsync();
                break;
        }
    }

    /// <summary>Closes the image cleanly, which is a flush too.</summary>
    public async ValueTask CloseAsync()
    {
        long begin = Reference.BeginFlush();
        await _device.DisposeAsync();
        Reference.EndFlush(begin);
        await _snapshots.CheckAsync(_top);
    }

    /// <summary>The disk's size now, in bytes.</summary>
    public long Size => _device.Size;

    /// <summary>The top image now.</summary>
    public MemoryFile Top => _top.Reopen(readOnly: true);

    private async ValueTask ReopenAsync() => _device = await _chain.OpenAsync(new RecordingFile(_top.Reopen(), Log, _pause), _mutant);

    private async ValueTask ReadAsync(GuestOperation operation)
    {
        long settled = Log.Tick();
        long start = operation.Offset & ~(ReferenceImage.SectorSize - 1L);
        long end = Math.Min((operation.Offset + operation.Length + ReferenceImage.SectorSize - 1) & ~(ReferenceImage.SectorSize - 1L), _device.Size);
        byte[] read = new byte[end - start];
        await _device.ReadAsync(start, read);
        long foreign = Reference.FindForeignSector(start, read, settled, Log.Tick(), remember: true);
        if (foreign >= 0)
        {
            int at = (int)((foreign * ReferenceImage.SectorSize) - start);
            throw new ModelMismatchException($"{operation} [{settled}, {Log.Now}]: {Reference.Describe(foreign, read.AsSpan(at, ReferenceImage.SectorSize))}");
        }
    }

    private async ValueTask DiscardAsync(GuestOperation operation)
    {
        ReferenceImage.Change discard = Reference.BeginDiscard(operation.Offset, operation.Length);
        await _device.DiscardAsync(operation.Offset, operation.Length);
        if (_pause is not null)
        {
            // Others may have changed the range meanwhile, so nobody can tell what it did: old values and zeros remain admissible.
            return;
        }

        byte[] read = new byte[discard.Length];
        if (read.Length > 0)
        {
            await _device.ReadAsync(discard.Offset, read);
        }

        if (Reference.EndDiscard(discard, read) is >= 0 and long wrong)
        {
            throw new ModelMismatchException($"{operation}: at {wrong} neither the old content nor zeros");
        }
    }

    // What it holds was current, sector by sector, at some instant between the beginning and the end of taking it.
    private async ValueTask CreateSnapshotAsync(GuestOperation operation)
    {
        string name = operation.SnapshotName;
        if (_snapshots.Find(name) is not null || !await _snapshots.HasRoomAsync(_device))
        {
            return;
        }

        long begin = Reference.BeginFlush();
        await _device.CreateSnapshotAsync(name, SnapshotModel.Moment);
        byte[] content = await _snapshots.AddAsync(name, _top);
        Reference.EndFlush(begin);
        long foreign = Reference.FindForeignSector(0, content, begin, Log.Tick());
        if (foreign >= 0)
        {
            throw new ModelMismatchException($"{operation}: {Reference.Describe(foreign, content.AsSpan((int)foreign * ReferenceImage.SectorSize, ReferenceImage.SectorSize))}");
        }
    }

    private async ValueTask ApplySnapshotAsync(GuestOperation operation)
    {
        byte[]? content = _snapshots.Find(operation.SnapshotName);
        // Requests of other clients are made for the size that the disk has.
        if (content is null || (_pause is not null && content.Length != _device.Size))
        {
            return;
        }

        ReferenceImage.Change resize = Reference.BeginResize(content.Length);
        ReferenceImage.Change write = Reference.BeginWrite(0, content);
        await _device.ApplySnapshotAsync(operation.SnapshotName);
        Reference.End(resize);
        Reference.End(write);
        Reference.EndFlush(Reference.BeginFlush());
    }

    private async ValueTask DeleteSnapshotAsync(GuestOperation operation)
    {
        if (_snapshots.Find(operation.SnapshotName) is null)
        {
            return;
        }

        // First, so that nobody goes back to it meanwhile.
        _snapshots.Remove(operation.SnapshotName);
        long begin = Reference.BeginFlush();
        await _device.DeleteSnapshotAsync(operation.SnapshotName);
        Reference.EndFlush(begin);
    }

    private async ValueTask FlushAsync()
    {
        long begin = Reference.BeginFlush();
        await _device.FlushAsync();
        Reference.EndFlush(begin);
    }
}
