using BlockMount.Base;

namespace BlockMount.TestSupport.Model;

/// <summary>Makes up workloads for a disk. Deterministic.</summary>
public sealed class WorkloadGenerator
{
    private readonly Random _random;
    private readonly int _clusterSize;
    private readonly long _sizeMax;
    private readonly int _granularity;
    private readonly WorkloadMix _mix;
    private int _stamp;

    // Snapshots that should exist: their stamps, and the disk's size when they were taken.
    private readonly List<(int Stamp, long Size)> _snapshots = [];

    /// <param name="size">Virtual size at the beginning, in bytes.</param>
    /// <param name="sizeMax">Resizes stay at or below it.</param>
    /// <param name="granularity">Offsets and lengths of reads, writes and zeroes are multiples of it: 1 or 512.</param>
    /// <param name="mix">How often each kind comes.</param>
    public WorkloadGenerator(Random random, int clusterSize, long size, long sizeMax, int granularity, WorkloadMix mix)
    {
        _random = random;
        _clusterSize = clusterSize;
        Size = size;
        _sizeMax = sizeMax;
        _granularity = granularity;
        _mix = mix;
        _stamp = random.Next();
    }

    /// <summary>The disk's size after the operations made so far.</summary>
    public long Size { get; private set; }

    /// <summary>The next operation.</summary>
    public GuestOperation Next()
    {
        GuestOperation operation = new(_mix.Pick(_random), 0, 0, 0);
        if (operation.HasRange)
        {
            (long offset, int length) = NextRange();
            operation = operation with { Offset = offset, Length = length, Stamp = _stamp++ };
            return operation.Kind == GuestOperationKind.WriteCompressed ? InWholeClusters(operation) : operation;
        }

        if (operation.IsSnapshot)
        {
            return NextSnapshot(operation.Kind);
        }

        if (operation.Kind == GuestOperationKind.Resize)
        {
            Size = Alignment.Up(_random.NextInt64(1, _sizeMax), 512);
            return operation with { Offset = Size };
        }

        return operation;
    }

    /// <summary>The next <paramref name="count"/> operations.</summary>
    public List<GuestOperation> Take(int count)
    {
        List<GuestOperation> operations = new(count);
        for (int i = 0; i < count; i++)
        {
            operations.Add(Next());
        }

        return operations;
    }

    private GuestOperation NextSnapshot(GuestOperationKind kind)
    {
        if (kind == GuestOperationKind.SnapshotCreate || _snapshots.Count == 0)
        {
            _snapshots.Add((_stamp++, Size));
            return new GuestOperation(GuestOperationKind.SnapshotCreate, 0, 0, _snapshots[^1].Stamp);
        }

        int pick = _random.Next(_snapshots.Count);
        (int stamp, long size) = _snapshots[pick];
        if (kind == GuestOperationKind.SnapshotApply)
        {
            Size = size;
        }
        else
        {
            _snapshots.RemoveAt(pick);
        }

        return new GuestOperation(kind, 0, 0, stamp);
    }

    private GuestOperation InWholeClusters(GuestOperation operation)
    {
        long first = Alignment.Down(operation.Offset, _clusterSize);
        long end = Math.Min(Size, Alignment.Up(operation.Offset + operation.Length, _clusterSize));
        return operation with { Offset = first, Length = (int)(end - first) };
    }

    // Edges are where mistakes live: clusters, sectors, single bytes beside them, now and then the whole disk.
    private (long Offset, int Length) NextRange()
    {
        long offset = _random.NextInt64(Size);
        long length = _random.Next(5) switch
        {
            0 => _random.Next(1, 64),
            1 => _random.Next(1, _clusterSize + 1),
            2 => _clusterSize * _random.Next(1, 5),
            3 => _random.Next(1, 6 * _clusterSize),
            _ => _random.Next(12) == 0 ? Size : 512 * _random.Next(1, 9),
        };
        int unit = _random.Next(3) switch { 0 => _clusterSize, 1 => 512, _ => _granularity };
        offset = Math.Min(Alignment.Down(offset, unit), Alignment.Down(Size - 1, _granularity));
        length = _random.Next(3) == 0 ? Alignment.Up(offset + length, _clusterSize) - offset : Alignment.Up(length, _granularity);
        return (offset, (int)Math.Min(length, Size - offset));
    }
}
