using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;

namespace BlockMount.Tests.Model;

/// <summary>
/// Very many operations on one image that stays open: what is freed must be found again, or the file grows without bound although no check finds
/// anything wrong (RELIABILITY D6, I8).
/// </summary>
internal static class FootprintRun
{
    internal const int FirstSeed = 90_000;

    private const int SizeMax = 64 << 10;

    // Every operation is flushed, so what waits in quarantine is at most what one operation replaced: the disk once more. Tables come on top.
    private const long LengthMax = (2 * SizeMax) + (SizeMax / 4) + (16 << 10);

    private static readonly WorkloadMix s_mix = new()
    {
        { GuestOperationKind.Write, 40 },
        { GuestOperationKind.WriteCompressed, 10 },
        { GuestOperationKind.Zero, 10 },
        { GuestOperationKind.ZeroMayUnmap, 10 },
        { GuestOperationKind.Discard, 25 },
        { GuestOperationKind.Resize, 1 },
    };

    /// <summary>Runs so many operations.</summary>
    /// <returns>The longest that the file was, in bytes.</returns>
    /// <exception cref="ModelMismatchException">The file is longer than what lives in it explains.</exception>
    internal static async Task<long> RunAsync(int seed, int operations)
    {
        ImageGeometry geometry = new() { ClusterBits = 9 + (seed % 3), RefcountOrder = 4 + (seed % 2), Size = SizeMax / 2, DiscardToHost = seed % 2 == 0 };
        TestChain chain = await TestChain.CreateAsync(geometry, seed);
        TestDisk disk = await chain.OpenDiskAsync(chain.Top.Reopen());
        WorkloadGenerator generator = new(new Random(seed), geometry.ClusterSize, geometry.Size, SizeMax, granularity: 1, s_mix);
        for (int i = 0; i < operations; i++)
        {
            GuestOperation operation = generator.Next().ClippedTo(disk.Device.Size);
            if (!operation.IsEmpty)
            {
                await disk.ApplyAsync(operation);
                await disk.Device.FlushAsync();
            }

            if (chain.Top.Length > LengthMax)
            {
                throw new ModelMismatchException($"after {i + 1} operations the file has {chain.Top.Length} bytes, at most {LengthMax} can be explained\n{geometry}");
            }
        }

        await disk.DisposeAsync();
        return chain.Top.Length;
    }
}
