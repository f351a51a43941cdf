using System.Diagnostics;
using BlockMount.TestSupport.Images;

namespace BlockMount.TestSupport.Model;

/// <summary>
/// Applies operations to a disk and keeps a <see cref="ReferenceImage"/> of what the guest may see, which every read is compared with. Several operations
/// may be under way at once, on one thread.
/// </summary>
public sealed class ObservedDisk
{
    private const long SectorMask = ReferenceImage.SectorSize - 1;

    private readonly TestDisk _disk;
    private readonly ReferenceImage _reference;
    private readonly Func<long> _tick;
    private readonly bool _concurrent;

    /// <param name="tick">The clock of the reference.</param>
    /// <param name="concurrent">Operations overlap. Then offsets and lengths are multiples of a sector, and nobody can tell what a discard did.</param>
    public ObservedDisk(TestDisk disk, ReferenceImage reference, Func<long> tick, bool concurrent)
    {
        _disk = disk;
        _reference = reference;
        _tick = tick;
        _concurrent = concurrent;
    }

    /// <summary>Sees what each read returned; may be null.</summary>
    public Action<byte[]>? Read { get; init; }

    /// <summary>The disk's size now, in bytes.</summary>
    public long Size => _disk.Device.Size;

    /// <summary>Runs one operation, cut off at the end of the disk, to its end. What fails may have changed anything in its range.</summary>
    /// <exception cref="ModelMismatchException">The guest saw what it may not see.</exception>
    public async ValueTask RunAsync(GuestOperation operation)
    {
        operation = operation.ClippedTo(Size);
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
                await ChangeAsync(_reference.BeginWrite(operation.Offset, operation.Data()), operation);
                break;
            case GuestOperationKind.Zero:
            case GuestOperationKind.ZeroMayUnmap:
                await ChangeAsync(_reference.BeginZero(operation.Offset, operation.Length), operation);
                break;
            case GuestOperationKind.Discard:
                await DiscardAsync(operation);
                break;
            case GuestOperationKind.Flush:
                long begin = _reference.BeginFlush();
                await _disk.ApplyAsync(operation);
                _reference.EndFlush(begin);
                break;
            case GuestOperationKind.Resize:
                await ChangeAsync(_reference.BeginResize(operation.Offset), operation);
                break;
            default:
                throw new UnreachableException($"{operation.Kind} is the business of whoever opened the disk");
        }
    }

    /// <summary>Closes the disk cleanly, which is a flush too.</summary>
    public async ValueTask CloseAsync()
    {
        long begin = _reference.BeginFlush();
        await _disk.DisposeAsync();
        _reference.EndFlush(begin);
    }

    private async ValueTask ChangeAsync(ReferenceImage.Change change, GuestOperation operation)
    {
        await _disk.ApplyAsync(operation);
        _reference.End(change);
    }

    private async ValueTask ReadAsync(GuestOperation operation)
    {
        long settled = _tick();
        long start = operation.Offset & ~SectorMask;
        long end = Math.Min((operation.Offset + operation.Length + SectorMask) & ~SectorMask, Size);
        byte[] read = new byte[end - start];
        await _disk.Device.ReadAsync(start, read);
        Read?.Invoke(read);
        long now = _tick();
        long foreign = _reference.FindForeignSector(start, read, settled, now, remember: true);
        if (foreign >= 0)
        {
            int at = (int)((foreign * ReferenceImage.SectorSize) - start);
            throw new ModelMismatchException($"{operation} [{settled}, {now}]: {_reference.Describe(foreign, read.AsSpan(at, ReferenceImage.SectorSize))}");
        }
    }

    private async ValueTask DiscardAsync(GuestOperation operation)
    {
        ReferenceImage.Change discard = _reference.BeginDiscard(operation.Offset, operation.Length);
        await _disk.ApplyAsync(operation);
        if (_concurrent)
        {
            // Others may have changed the range meanwhile, so nobody can tell what it did: old values and zeros remain admissible.
            return;
        }

        byte[] read = new byte[discard.Length];
        if (read.Length > 0)
        {
            await _disk.Device.ReadAsync(discard.Offset, read);
        }

        if (_reference.EndDiscard(discard, read) is >= 0 and long wrong)
        {
            throw new ModelMismatchException($"{operation}: at {wrong} neither the old content nor zeros");
        }
    }
}
