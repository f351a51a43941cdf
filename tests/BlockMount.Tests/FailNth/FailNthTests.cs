using BlockMount.Base;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Faults;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.FailNth;

/// <summary>Each operation with each of its storage calls failing (RELIABILITY H4).</summary>
public sealed class FailNthTests(ITestOutputHelper output)
{
    private const int Size = 48 << 10;

    internal static readonly ImageGeometry[] s_geometries =
    [
        new() { Size = Size },
        new() { Size = Size, RefcountOrder = 6 },
        new() { Size = Size, RefcountOrder = 0, Backing = BackingKind.Raw, Depth = 2, BackingSize = Size },
        new() { Size = Size, Version = 2, ClusterBits = 10, Backing = BackingKind.Qcow2, Depth = 2, BackingSize = Size / 2 },
        new() { Size = Size, ClusterBits = 12, Backing = BackingKind.Qcow2, Depth = 3, BackingSize = Size },
        new() { Size = Size, ClusterBits = 12, TinyCache = false, DiscardToHost = false },
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

    /// <summary>Name, operation.</summary>
    public static TheoryData<string, GuestOperationKind, long, int> Operations => new()
    {
        { "read", GuestOperationKind.Read, 100, 30000 },
        { "write in place", GuestOperationKind.Write, 512, 1000 },
        { "allocating write", GuestOperationKind.Write, 40960, 8192 },
        { "allocating write of much", GuestOperationKind.Write, 3, Size - 5 },
        { "write into preallocated zeros", GuestOperationKind.Write, 2500, 1000 },
        { "write with copied edges", GuestOperationKind.Write, 12300, 100 },
        { "zero", GuestOperationKind.Zero, 100, 20000 },
        { "zero with unmap", GuestOperationKind.ZeroMayUnmap, 600, 36000 },
        { "discard", GuestOperationKind.Discard, 0, Size },
        { "compressed write", GuestOperationKind.WriteCompressed, 28672, 8192 },
        { "compressed write over data and zeros", GuestOperationKind.WriteCompressed, 0, Size },
        { "flush", GuestOperationKind.Flush, 0, 0 },
        { "grow", GuestOperationKind.Resize, 4 * Size, 0 },
        { "shrink", GuestOperationKind.Resize, 4096, 0 },
        { "open and close", GuestOperationKind.Reopen, 0, 0 },
    };

    [Theory]
    [MemberData(nameof(Operations))]
    public async Task EveryStorageCall_Failing_LeavesOldOrNewDataAndAValidImage(string name, GuestOperationKind kind, long offset, int length)
    {
        int failures = 0;
        GuestOperation operation = new(kind, offset, length, Stamp: 99);
        foreach (ImageGeometry geometry in s_geometries)
        {
            FailNthRun run = await FailNthRun.PrepareAsync(geometry, s_preparation);
            foreach (FaultPlan plan in s_plans)
            {
                failures += await run.FailEveryCallAsync(operation, plan, fromOpen: kind == GuestOperationKind.Reopen);
            }
        }

        Assert.True(failures > 0 || kind == GuestOperationKind.Read);
        output.WriteLine($"{name}: {failures} failing calls");
    }
}
