using System.Globalization;
using BlockMount.Base;

namespace BlockMount.TestSupport.Model;

/// <summary>Kinds of guest operations.</summary>
public enum GuestOperationKind
{
    Read,
    Write,
    Zero,
    ZeroMayUnmap,
    Discard,
    Flush,
    Resize,

    /// <summary>Close the image cleanly and open it again.</summary>
    Reopen,

    /// <summary>Take an internal snapshot. The stamp names it.</summary>
    SnapshotCreate,

    /// <summary>Go back to the internal snapshot that the stamp names; nothing if there is none.</summary>
    SnapshotApply,

    /// <summary>Delete the internal snapshot that the stamp names; nothing if there is none.</summary>
    SnapshotDelete,
}

/// <summary>One operation of a workload.</summary>
/// <param name="Offset">First byte; for Resize the new size.</param>
/// <param name="Length">Bytes; 0 where there is no range.</param>
/// <param name="Stamp">Decides the bytes of a write; names a snapshot.</param>
public readonly record struct GuestOperation(GuestOperationKind Kind, long Offset, int Length, int Stamp)
{
    /// <summary>This operation cut off at the end of a disk of <paramref name="size"/> bytes; its length may become 0.</summary>
    public GuestOperation ClippedTo(long size) => Kind >= GuestOperationKind.Flush
        ? this
        : this with { Length = (int)Math.Clamp(size - Offset, 0, Length) };

    /// <summary>Name of the snapshot that the operation is about.</summary>
    public string SnapshotName => string.Create(CultureInfo.InvariantCulture, $"s{Stamp}");

    /// <summary>The bytes that a write writes: different for every stamp and every sector, never zero.</summary>
    public byte[] Data()
    {
        byte[] data = new byte[Length];
        Random random = new(Stamp);
        random.NextBytes(data);
        return data;
    }
}

/// <summary>Makes up workloads for a disk. Deterministic.</summary>
public sealed class WorkloadGenerator
{
    private readonly Random _random;
    private readonly int _clusterSize;
    private readonly long _sizeMax;
    private readonly int _granularity;
    private readonly int[] _weights;
    private readonly int _weightSum;
    private int _stamp;

    // Snapshots that should exist: their stamps, and the disk's size when they were taken.
    private readonly List<(int Stamp, long Size)> _snapshots = [];

    /// <param name="size">Virtual size at the beginning, in bytes.</param>
    /// <param name="sizeMax">Resizes stay at or below it.</param>
    /// <param name="granularity">Offsets and lengths of reads, writes and zeroes are multiples of it: 1 or 512.</param>
    /// <param name="weights">How often each kind comes, in the order of <see cref="GuestOperationKind"/>.</param>
    public WorkloadGenerator(Random random, int clusterSize, long size, long sizeMax, int granularity, int[] weights)
    {
        _random = random;
        _clusterSize = clusterSize;
        Size = size;
        _sizeMax = sizeMax;
        _granularity = granularity;
        _weights = weights;
        _weightSum = weights.Sum();
        _stamp = random.Next();
    }

    /// <summary>The disk's size after the operations made so far.</summary>
    public long Size { get; private set; }

    /// <summary>The next operation.</summary>
    public GuestOperation Next()
    {
        GuestOperationKind kind = NextKind();
        switch (kind)
        {
            case GuestOperationKind.Flush:
            case GuestOperationKind.Reopen:
                return new GuestOperation(kind, 0, 0, 0);
            case GuestOperationKind.Resize:
                Size = Alignment.Up(_random.NextInt64(1, _sizeMax), 512);
                return new GuestOperation(kind, Size, 0, 0);
            case GuestOperationKind.SnapshotCreate:
            case GuestOperationKind.SnapshotApply:
            case GuestOperationKind.SnapshotDelete:
                return NextSnapshot(kind);
            default:
                (long offset, int length) = NextRange();
                return new GuestOperation(kind, offset, length, _stamp++);
        }
    }

    private GuestOperationKind NextKind()
    {
        int pick = _random.Next(_weightSum);
        int kind = 0;
        while (pick >= _weights[kind])
        {
            pick -= _weights[kind++];
        }

        return (GuestOperationKind)kind;
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
