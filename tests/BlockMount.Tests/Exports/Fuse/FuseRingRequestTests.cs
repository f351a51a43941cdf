using System.Runtime.CompilerServices;
using BlockMount.Base;
using BlockMount.Exports.Fuse;
using BlockMount.Exports.Fuse.Abi;
using BlockMount.Exports.Fuse.Ring;
using Xunit;

namespace BlockMount.Tests.Exports.Fuse;

/// <summary>Requests as they lie in an entry of a ring, and their way back to its thread.</summary>
public sealed class FuseRingRequestTests
{
    private const int InHeaderLength = 40;

    [Fact]
    public void TryParseRing_ReadsHeaderAndArgument()
    {
        using FuseRequest request = FuseRequest.ForRing();
        Fill(request, FuseOpcode.FUSE_READ, Unsafe.SizeOf<fuse_read_in>(), payload: 0);
        Put(request, fuse_uring_req_header.OpInOffset, new fuse_read_in { offset = 4096, size = 512 });

        Assert.True(request.TryParseRing());
        Assert.True(request.TryGetArgument(out fuse_read_in read));
        Assert.Equal((4096ul, 512u), (read.offset, read.size));
        Assert.Equal(512, request.TransferLength);
    }

    [Fact]
    public void TryGetArgument_KernelSentLess_IsRefusedThoughTheAreaIsLarger()
    {
        using FuseRequest request = FuseRequest.ForRing();
        Fill(request, FuseOpcode.FUSE_READ, argument: 8, payload: 0);
        Assert.True(request.TryParseRing());
        Assert.False(request.TryGetArgument(out fuse_read_in _));
    }

    [Theory]
    [InlineData(0, 4096, 4095)]
    [InlineData(129, 0, 0)]
    [InlineData(0, FuseRequest.PayloadMax + 1, FuseRequest.PayloadMax + 1)]
    [InlineData(-1, 0, 0)]
    public void TryParseRing_LengthsThatCannotBe_AreRefused(int argument, int payload, int counted)
    {
        using FuseRequest request = FuseRequest.ForRing();
        Fill(request, FuseOpcode.FUSE_WRITE, argument + counted - payload, payload);
        Assert.False(request.TryParseRing());
    }

    [Fact]
    public unsafe void Reply_PutsTheHeaderInItsAreaAndTheBodyInThePayload()
    {
        using FuseRequest request = FuseRequest.ForRing();
        Fill(request, FuseOpcode.FUSE_WRITE, Unsafe.SizeOf<fuse_write_in>(), payload: 4096);
        Assert.True(request.TryParseRing());
        Assert.Equal(4096, request.TransferLength);

        _ = request.ReplyWith(new fuse_write_out { size = 4096 });
        fuse_out_header header = Unsafe.ReadUnaligned<fuse_out_header>(request.RingHeader);
        Assert.Equal((24u, 0, 77ul), (header.len, header.error, header.unique));
        Assert.Equal(8, request.ReplyBodyLength);
        Assert.Equal(4096u, Unsafe.ReadUnaligned<uint>(request.RingPayload));

        _ = request.ReplyStatus(Errno.EIO);
        Assert.Equal(-(int)Errno.EIO, Unsafe.ReadUnaligned<fuse_out_header>(request.RingHeader).error);
        Assert.Equal(0, request.ReplyBodyLength);
    }

    [Fact]
    public async Task FinishedRequests_FromManyThreads_ComeOutOnceEach()
    {
        const int adders = 4;
        const int each = 500;
        using FinishedRequests finished = new();
        FuseRequest[][] requests = [.. Enumerable.Range(0, adders).Select(_ => Enumerable.Range(0, each).Select(_ => FuseRequest.ForRing()).ToArray())];
        HashSet<FuseRequest> taken = [];
        Task[] adding = [.. requests.Select(own => Task.Run(() => Array.ForEach(own, finished.Add)))];
        Task all = Task.WhenAll(adding);
        bool added = false;
        while (!added)
        {
            // Asked first: what was added before is found below.
            added = all.IsCompleted;
            for (FuseRequest? request = finished.TakeAll(); request is not null; request = request.Next)
            {
                Assert.True(taken.Add(request));
            }
        }

        await all;
        Assert.Equal(adders * each, taken.Count);
        Array.ForEach(requests, own => Array.ForEach(own, request => request.Dispose()));
    }

    private static unsafe void Fill(FuseRequest request, FuseOpcode opcode, int argument, int payload)
    {
        Put(request, 0, new fuse_in_header { len = (uint)(InHeaderLength + argument + payload), opcode = (uint)opcode, unique = 77, nodeid = 1 });
        ((fuse_uring_req_header*)request.RingHeader)->ring_ent_in_out.payload_sz = (uint)payload;
    }

    private static unsafe void Put<T>(FuseRequest request, int offset, T value)
        where T : unmanaged => Unsafe.WriteUnaligned(request.RingHeader + offset, value);
}
