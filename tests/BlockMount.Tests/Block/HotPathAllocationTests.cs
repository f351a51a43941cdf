using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Formats.Qcow2;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Block;

/// <summary>Reads and in-place writes of a qcow2 chain allocate nothing once its metadata is cached, from the device down to the file.</summary>
public sealed class HotPathAllocationTests
{
    private const int Rounds = 10_000;
    private const int Size = 1 << 20;

#if DEBUG
    // There the compiler makes every async method a class.
    private const string? Skipped = "only optimised builds keep async methods off the heap: run the tests with -c Release";
#else
    private const string? Skipped = null;
#endif

    [Fact(Skip = Skipped)]
    public async Task ReadAndWriteInPlace_TenThousandTimes_AllocateNothing()
    {
        MemoryFile below = new("base");
        await Qcow2Create.CreateAsync(below, new Qcow2CreateOptions { Size = Size });
        MemoryFile top = new("top");
        await Qcow2Create.CreateAsync(top, new Qcow2CreateOptions { Size = Size });
        FormatNode backing = new("node1", "base", await Qcow2Driver.OpenAsync(below.Reopen(readOnly: false), new Qcow2OpenOptions()), backing: null);
        await backing.WriteAsync(0, new byte[Size]);
        await using BlockDevice device = new(
            "disk", new FormatNode("node0", "top", await Qcow2Driver.OpenAsync(top.Reopen(readOnly: false), new Qcow2OpenOptions()), backing), readOnly: false);
        byte[] buffer = new byte[4096];
        await device.WriteAsync(0, new byte[Size / 2]);
        Run(device, buffer);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Run(device, buffer);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    // The first half is in the top image, the second shows through from the backing file.
    private static void Run(BlockDevice device, byte[] buffer)
    {
        for (int i = 0; i < Rounds; i++)
        {
            long offset = i % 128 * 4096L;
            AtOnce(device.WriteAsync(offset, buffer));
            AtOnce(device.ReadAsync(offset, buffer));
            AtOnce(device.ReadAsync((Size / 2) + offset, buffer));
        }
    }

    private static void AtOnce(ValueTask request)
    {
        Assert.True(request.IsCompletedSuccessfully);
        request.GetAwaiter().GetResult();
    }
}
