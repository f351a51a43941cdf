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

    /// <summary>The snapshots; without it operations about them are left out.</summary>
    public SnapshotModel? Snapshots { get; init; }

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
            case GuestOperationKind.SnapshotCreate:
                await CreateSnapshotAsync(operation);
                break;
            case GuestOperationKind.SnapshotApply:
                await ApplySnapshotAsync(operation);
                break;
            case GuestOperationKind.SnapshotDelete:
                await DeleteSnapshotAsync(operation);
                break;
            case GuestOperationKind.Resize when Snapshots?.ForbidsResize == true:
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
        if (Snapshots is not null)
        {
            await Snapshots.CheckAsync();
        }
    }

    // What it holds was current, sector by sector, at some instant between the beginning and the end of taking it.
    private async ValueTask CreateSnapshotAsync(GuestOperation operation)
    {
        long begin = _reference.BeginFlush();
        if (Snapshots is null || await Snapshots.CreateAsync(_disk.Device, operation.SnapshotName) is not { } content)
        {
            return;
        }

        _reference.EndFlush(begin);
        long foreign = _reference.FindForeignSector(0, content, begin, _tick());
        if (foreign >= 0)
        {
            throw new ModelMismatchException($"{operation}: {_reference.Describe(foreign, content.AsSpan((int)foreign * ReferenceImage.SectorSize, ReferenceImage.SectorSize))}");
        }
    }

    private async ValueTask ApplySnapshotAsync(GuestOperation operation)
    {
        byte[]? content = Snapshots?.Find(operation.SnapshotName);
        // Requests of other clients are made for the size that the disk has; and what a refusal left them could not be told.
        if (content is null || (_concurrent && (content.Length != Size || Snapshots!.MayOverflow)))
        {
            return;
        }

        byte[] before = _reference.Current.ToArray();

        ReferenceImage.Change resize = _reference.BeginResize(content.Length);
        ReferenceImage.Change write = _reference.BeginWrite(0, content);
        bool applied = await Snapshots!.ApplyAsync(_disk.Device, operation.SnapshotName);
        _reference.End(resize);
        _reference.End(write);
        if (!applied)
        {
            // As if it had been done and undone.
            _reference.End(_reference.BeginResize(before.Length));
            _reference.End(_reference.BeginWrite(0, before));
            return;
        }

        _reference.EndFlush(_reference.BeginFlush());
    }

    private async ValueTask DeleteSnapshotAsync(GuestOperation operation)
    {
        long begin = _reference.BeginFlush();
        if (Snapshots is not null && await Snapshots.DeleteAsync(_disk.Device, operation.SnapshotName))
        {
            _reference.EndFlush(begin);
        }
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
