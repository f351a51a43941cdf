using System.Globalization;

namespace BlockMount.TestSupport.Model;

/// <summary>
/// Kinds of guest operations. A new kind needs: a line in <see cref="GuestOperation.HasRange"/> if it has a range, a case in
/// <see cref="Images.TestDisk.ApplyAsync"/> (what it does to the disk), one in <see cref="DiskModel.Apply"/> (what the disk holds afterwards), one in
/// <see cref="Crash.CrashWorkload"/> if a power cut may leave something in between, and a weight in the mixes of the suites.
/// </summary>
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

    /// <summary>Write whole clusters compressed; data that compresses badly or not at all is among them.</summary>
    WriteCompressed,

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
    /// <summary>It acts on <see cref="Length"/> bytes at <see cref="Offset"/>, which must lie inside the disk.</summary>
    public bool HasRange => Kind is GuestOperationKind.Read or GuestOperationKind.Write or GuestOperationKind.Zero or GuestOperationKind.ZeroMayUnmap
        or GuestOperationKind.Discard or GuestOperationKind.WriteCompressed;

    /// <summary>It is about an internal snapshot.</summary>
    public bool IsSnapshot => Kind is GuestOperationKind.SnapshotCreate or GuestOperationKind.SnapshotApply or GuestOperationKind.SnapshotDelete;

    /// <summary>Name of the snapshot that the operation is about.</summary>
    public string SnapshotName => string.Create(CultureInfo.InvariantCulture, $"s{Stamp}");

    /// <summary>It has a range of which nothing is left: there is nothing to do.</summary>
    public bool IsEmpty => HasRange && Length == 0;

    /// <summary>This operation cut off at the end of a disk of <paramref name="size"/> bytes; its length may become 0.</summary>
    public GuestOperation ClippedTo(long size) => HasRange ? this with { Length = (int)Math.Clamp(size - Offset, 0, Length) } : this;

    /// <summary>The bytes that a write writes: different for every stamp and every sector, never zero.</summary>
    public byte[] Data()
    {
        byte[] data = new byte[Length];
        FillData(data);
        return data;
    }

    /// <summary>The same, into <paramref name="data"/>, which is as long as the operation.</summary>
    public void FillData(Span<byte> data)
    {
        StampedBytes.Fill(data, Stamp);
        if (Kind == GuestOperationKind.WriteCompressed)
        {
            StampedBytes.Thin(data, Stamp);
        }
    }
}
