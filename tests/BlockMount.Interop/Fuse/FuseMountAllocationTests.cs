using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Fuse;

/// <summary>Requests through a real mount allocate nothing, on whatever thread.</summary>
[Collection(RunAlone.Name)]
public sealed class FuseMountAllocationTests
{
    private const int Requests = 5_000;

    [RequiresFuseFact]
    public async Task ReadsAndWritesInPlace_ThroughTheMount_AllocateNothing()
    {
        await using MountedDisk disk = await MountedDisk.OnHostFileAsync(1 << 20);
        using Microsoft.Win32.SafeHandles.SafeFileHandle file = File.OpenHandle(disk.Path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        byte[] buffer = new byte[4096];
        long fewest = long.MaxValue;
        for (int pass = 0; pass < 6; pass++)
        {
            long before = GC.GetTotalAllocatedBytes(precise: true);
            for (int i = 0; i < Requests; i++)
            {
                long offset = (i & 255) * 4096L;
                RandomAccess.Write(file, buffer, offset);
                RandomAccess.Read(file, buffer, offset);
            }

            fewest = Math.Min(fewest, GC.GetTotalAllocatedBytes(precise: true) - before);
        }

        // All threads of the process are counted, the test host's as well: the best pass, and less than a byte for each request.
        // Builds without optimisation put the state of async methods on the heap, so there only an upper bound makes sense.
        Assert.InRange(fewest, 0, Requests * (Optimised ? 1 : 2_000L));
    }

#if DEBUG
    private static bool Optimised => false;
#else
    private static bool Optimised => true;
#endif
}
