using BlockMount.Exports.Fuse;
using BlockMount.Exports.Fuse.Abi;
using Xunit;

namespace BlockMount.Tests.Exports.Fuse;

/// <summary>The hot operations allocate nothing.</summary>
public sealed class FuseAllocationTests
{
    private const int Rounds = 10_000;

#if DEBUG
    // There the compiler makes every async method a class.
    private const string? Skipped = "only optimised builds keep async methods off the heap: run the tests with -c Release";
#else
    private const string? Skipped = null;
#endif

    [Fact(Skip = Skipped)]
    public void Read_TenThousandTimes_AllocatesNothing()
    {
        using FuseFixture disk = new();
        byte[] frame = FuseFrames.Build(FuseOpcode.FUSE_READ, new fuse_read_in { offset = 8192, size = 4096 });
        Assert.Equal(0, MeasureAllocation(disk.Dispatcher, frame, expectedReply: 16 + 4096));
    }

    [Fact(Skip = Skipped)]
    public void WriteInPlace_TenThousandTimes_AllocatesNothing()
    {
        using FuseFixture disk = new();
        byte[] frame = FuseFrames.Build(FuseOpcode.FUSE_WRITE, new fuse_write_in { offset = 8192, size = 4096 }, new byte[4096]);
        Assert.Equal(0, MeasureAllocation(disk.Dispatcher, frame, expectedReply: 16 + 8));
    }

    private static unsafe long MeasureAllocation(FuseDispatcher dispatcher, byte[] frame, int expectedReply)
    {
        using FuseRequest request = new();
        Serve(dispatcher, request, frame, expectedReply, Rounds);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Serve(dispatcher, request, frame, expectedReply, Rounds);
        return GC.GetAllocatedBytesForCurrentThread() - before;
    }

    private static unsafe void Serve(FuseDispatcher dispatcher, FuseRequest request, byte[] frame, int expectedReply, int rounds)
    {
        for (int i = 0; i < rounds; i++)
        {
            // The reply was built over the headers.
            frame.CopyTo(new Span<byte>(request.Frame, FuseRequest.FrameCapacity));
            ValueTask<int> reply = dispatcher.HandleAsync(request, frame.Length);
            if (!reply.IsCompletedSuccessfully || reply.Result != expectedReply)
            {
                throw new InvalidOperationException("the request was not served at once");
            }
        }
    }
}
