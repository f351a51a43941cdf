using System.Diagnostics;
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
    private TestDisk _disk = null!;

    private CrashWorkload(TestChain chain, MemoryFile top, ReadOnlySpan<byte> content, long sizeMax, Func<ValueTask>? pause, Mutant? mutant)
    {
        _chain = chain;
        _top = top;
        _pause = pause;
        _mutant = mutant;
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
        operation = operation.ClippedTo(_disk.Device.Size);
        if (operation.IsEmpty)
        {
            return;
        }

        switch (operation.Kind)
        {
            case GuestOperationKind.Read:
                await ReadAsync(operation);
                break;
            case GuestOperationKind.Write:
            case GuestOperationKind.WriteCompressed:
                await ChangeAsync(Reference.BeginWrite(operation.Offset, operation.Data()), operation);
                break;
            case GuestOperationKind.Zero:
            case GuestOperationKind.ZeroMayUnmap:
                await ChangeAsync(Reference.BeginZero(operation.Offset, operation.Length), operation);
                break;
            case GuestOperationKind.Discard:
                await DiscardAsync(operation);
                break;
            case GuestOperationKind.Flush:
                await FlushAsync();
                break;
            case GuestOperationKind.Resize:
                await ChangeAsync(Reference.BeginResize(operation.Offset), operation);
                break;
            case GuestOperationKind.Reopen:
                await CloseAsync();
                await ReopenAsync();
                break;
            default:
                throw new UnreachableException();
        }
    }

    /// <summary>Closes the image cleanly, which is a flush too.</summary>
    public async ValueTask CloseAsync()
    {
        long begin = Reference.BeginFlush();
        await _disk.DisposeAsync();
        Reference.EndFlush(begin);
    }

    /// <summary>The disk's size now, in bytes.</summary>
    public long Size => _disk.Device.Size;

    /// <summary>The top image now.</summary>
    public MemoryFile Top => _top.Reopen(readOnly: true);

    private async ValueTask ReopenAsync() => _disk = await _chain.OpenDiskAsync(new RecordingFile(_top.Reopen(), Log, _pause), _mutant);

    private async ValueTask ChangeAsync(ReferenceImage.Change change, GuestOperation operation)
    {
        await _disk.ApplyAsync(operation);
        Reference.End(change);
    }

    private async ValueTask ReadAsync(GuestOperation operation)
    {
        long settled = Log.Tick();
        long start = operation.Offset & ~(ReferenceImage.SectorSize - 1L);
        long end = Math.Min((operation.Offset + operation.Length + ReferenceImage.SectorSize - 1) & ~(ReferenceImage.SectorSize - 1L), _disk.Device.Size);
        byte[] read = new byte[end - start];
        await _disk.Device.ReadAsync(start, read);
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
        await _disk.ApplyAsync(operation);
        if (_pause is not null)
        {
            // Others may have changed the range meanwhile, so nobody can tell what it did: old values and zeros remain admissible.
            return;
        }

        byte[] read = new byte[discard.Length];
        if (read.Length > 0)
        {
            await _disk.Device.ReadAsync(discard.Offset, read);
        }

        if (Reference.EndDiscard(discard, read) is >= 0 and long wrong)
        {
            throw new ModelMismatchException($"{operation}: at {wrong} neither the old content nor zeros");
        }
    }

    private async ValueTask FlushAsync()
    {
        long begin = Reference.BeginFlush();
        await _disk.Device.FlushAsync();
        Reference.EndFlush(begin);
    }
}
