using BlockMount.Base;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Faults;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using BlockMount.TestSupport.Mutants;

namespace BlockMount.Tests.FailNth;

/// <summary>What fails where: operations, images, and kinds of failures. Every operation meets every failure on every image.</summary>
internal static class FailNthMatrix
{
    private const int Stamp = 99;
    private const int Size = 48 << 10;

    internal static readonly ImageGeometry[] s_geometries =
    [
        new() { Size = Size },
        new() { Size = Size, RefcountOrder = 6 },
        new() { Size = Size, RefcountOrder = 0, Backing = BackingKind.Raw, Depth = 2, BackingSize = Size },
        new() { Size = Size, Version = 2, ClusterBits = 10, Backing = BackingKind.Qcow2, Depth = 2, BackingSize = Size / 2 },
        new() { Size = Size, ClusterBits = 12, Backing = BackingKind.Qcow2, Depth = 3, BackingSize = Size },
        new() { Size = Size, ClusterBits = 12, TinyCache = false, DiscardToHost = false },
        new() { Size = Size, ClusterBits = 14, ExtendedL2 = true, Backing = BackingKind.Raw, Depth = 2, BackingSize = Size },
        new() { Size = Size, DataFile = DataFileKind.Plain, Backing = BackingKind.Raw, Depth = 2, BackingSize = Size },
        new() { Size = Size, ClusterBits = 14, ExtendedL2 = true, DataFile = DataFileKind.Raw },
        new() { Size = Size, ClusterBits = 10, LazyRefcounts = true, DiscardNoUnref = true },
    ];

    internal static readonly FaultPlan[] s_plans =
    [
        new() { FailFrom = 1 },
        new() { FailFrom = 1, Errno = Errno.ENOSPC, Calls = StorageCalls.Changes },
        new() { FailFrom = 1, Forever = true },
        new() { FailFrom = 1, Errno = Errno.ENOSPC, Calls = StorageCalls.Changes, Forever = true },
        new() { FailFrom = 1, ShortTransfer = true },
        new() { FailFrom = 1, ShortTransfer = true, Errno = Errno.ENOSPC, Forever = true, Calls = StorageCalls.Changes },
        new() { FailFrom = 1, Calls = StorageCalls.Flush },
    ];

    // Something of everything: data, zeros with and without space, holes, more than one L2 table.
    internal static readonly GuestOperation[] s_preparation =
    [
        new(GuestOperationKind.Write, 0, 9000, 1),
        new(GuestOperationKind.Write, 20000, 7000, 2),
        new(GuestOperationKind.Zero, 2048, 4096, 0),
        new(GuestOperationKind.ZeroMayUnmap, 22528, 4096, 0),
        new(GuestOperationKind.Flush, 0, 0, 0),
        new(GuestOperationKind.Write, 36864, 4096, 3),
    ];

    internal static readonly (string Name, GuestOperation Operation)[] s_operations =
    [
        ("read", new GuestOperation(GuestOperationKind.Read, 100, 30000, Stamp)),
        ("write in place", new GuestOperation(GuestOperationKind.Write, 512, 1000, Stamp)),
        ("allocating write", new GuestOperation(GuestOperationKind.Write, 40960, 8192, Stamp)),
        ("allocating write of much", new GuestOperation(GuestOperationKind.Write, 3, Size - 5, Stamp)),
        ("write into preallocated zeros", new GuestOperation(GuestOperationKind.Write, 2500, 1000, Stamp)),
        ("write with copied edges", new GuestOperation(GuestOperationKind.Write, 12300, 100, Stamp)),
        ("zero", new GuestOperation(GuestOperationKind.Zero, 100, 20000, Stamp)),
        ("zero with unmap", new GuestOperation(GuestOperationKind.ZeroMayUnmap, 600, 36000, Stamp)),
        ("discard", new GuestOperation(GuestOperationKind.Discard, 0, Size, Stamp)),
        ("compressed write", new GuestOperation(GuestOperationKind.WriteCompressed, 28672, 8192, Stamp)),
        ("compressed write over data and zeros", new GuestOperation(GuestOperationKind.WriteCompressed, 0, Size, Stamp)),
        ("flush", new GuestOperation(GuestOperationKind.Flush, 0, 0, Stamp)),
        ("grow", new GuestOperation(GuestOperationKind.Resize, 4 * Size, 0, Stamp)),
        ("shrink", new GuestOperation(GuestOperationKind.Resize, 4096, 0, Stamp)),
        ("open and close", new GuestOperation(GuestOperationKind.Reopen, 0, 0, Stamp)),
    ];

    /// <summary>Makes every storage call of one operation fail, in every way, on every image.</summary>
    /// <returns>How many different calls failed.</returns>
    /// <exception cref="ModelMismatchException">A failure did damage, or was not reported.</exception>
    internal static async Task<int> FailEveryCallAsync(GuestOperation operation, Func<Mutant>? createMutant = null)
    {
        int failures = 0;
        foreach (ImageGeometry geometry in s_geometries)
        {
            FailNthRun run = await FailNthRun.PrepareAsync(geometry, s_preparation, createMutant);
            foreach (FaultPlan plan in s_plans)
            {
                bool fromOpen = operation.Kind == GuestOperationKind.Reopen;
                failures += await run.FailEveryCallAsync(operation, plan, fromOpen);
                failures += geometry.DataFile == DataFileKind.None ? 0 : await run.FailEveryCallAsync(operation, plan, fromOpen, onDataFile: true);
            }
        }

        return failures;
    }
}
