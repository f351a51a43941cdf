using BlockMount.Base.Buffers;
using Xunit;

namespace BlockMount.Tests.Base;

public sealed class AlignedBufferPoolTests
{
    [Theory]
    [InlineData(1, 4096)]
    [InlineData(4096, 4096)]
    [InlineData(4097, 8192)]
    [InlineData(65536, 65536)]
    [InlineData(1048577, 2097152)]
    [InlineData(4194304, 4194304)]
    [InlineData(4194305, 4194305)]
    public unsafe void Rent_AnyLength_IsAlignedAndLargeEnough(int length, int expected)
    {
        AlignedBufferPool pool = new();
        AlignedBuffer buffer = pool.Rent(length);
        Assert.Equal(expected, buffer.Length);
        Assert.Equal(0, (nint)buffer.Pointer % AlignedBuffer.PageSize);
        buffer.GetSpan().Fill(0xAA);
        pool.Return(buffer);
    }

    [Fact]
    public void Rent_AfterReturn_GivesTheSameBuffer()
    {
        AlignedBufferPool pool = new();
        AlignedBuffer buffer = pool.Rent(10_000);
        pool.Return(buffer);
        Assert.Same(buffer, pool.Rent(16_384));
    }

    [Fact]
    public unsafe void Return_MoreThanIsKept_FreesTheRest()
    {
        AlignedBufferPool pool = new();
        AlignedBuffer[] buffers = [.. Enumerable.Range(0, 100).Select(_ => pool.Rent(1 << 20))];
        foreach (AlignedBuffer buffer in buffers)
        {
            pool.Return(buffer);
        }

        int kept = buffers.Count(buffer => buffer.Pointer != null);
        Assert.InRange(kept, 4, 16);
    }

    [Fact]
    public unsafe void Return_AboveTheLargestPool_FreesTheBuffer()
    {
        AlignedBufferPool pool = new();
        AlignedBuffer buffer = pool.Rent((4 << 20) + 1);
        pool.Return(buffer);
        Assert.True(buffer.Pointer == null);
    }

    [Fact]
    public async Task RentAndReturn_ManyThreads_NeverShareABuffer()
    {
        AlignedBufferPool pool = new();
        Task[] workers = [.. Enumerable.Range(1, 6).Select(id => Task.Run(() =>
        {
            for (int i = 0; i < 5000; i++)
            {
                AlignedBuffer buffer = pool.Rent(4096);
                buffer.GetSpan().Fill((byte)id);
                Assert.Equal(-1, buffer.GetSpan().IndexOfAnyExcept((byte)id));
                pool.Return(buffer);
            }
        }))];
        await Task.WhenAll(workers).WaitAsync(TimeSpan.FromSeconds(60));
    }
}
