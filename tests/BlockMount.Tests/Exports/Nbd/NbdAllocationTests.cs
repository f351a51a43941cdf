using System.Diagnostics;
using System.Reflection;
using BlockMount.Exports.Nbd;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;
using static BlockMount.Exports.Nbd.Wire.NbdConstants;

namespace BlockMount.Tests.Exports.Nbd;

/// <summary>A theory that is skipped in Debug builds, where every async method allocates its state machine.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class OptimizedTheoryAttribute : TheoryAttribute
{
    public OptimizedTheoryAttribute()
    {
        bool debug = typeof(NbdTransmission).Assembly.GetCustomAttribute<DebuggableAttribute>()?.IsJITOptimizerDisabled ?? false;
        Skip = debug ? "async methods allocate in Debug builds: run with -c Release" : null;
    }
}

/// <summary>Reads and in-place writes that the device answers at once allocate nothing on the handling thread.</summary>
public class NbdAllocationTests
{
    private const int Count = 10_000;

    [OptimizedTheory]
    [InlineData(NBD_CMD_READ, true, 4096, 0)]
    [InlineData(NBD_CMD_READ, false, 4096, 0)]
    [InlineData(NBD_CMD_READ, true, 131072, 0)]
    [InlineData(NBD_CMD_WRITE, true, 4096, 0)]
    [InlineData(NBD_CMD_WRITE, false, 4096, NBD_CMD_FLAG_FUA)]
    [InlineData(NBD_CMD_WRITE, true, 262144, 0)]
    [InlineData(NBD_CMD_FLUSH, true, 0, 0)]
    public async Task Request_CompletingAtOnce_AllocatesNothing(ushort type, bool structured, uint length, ushort flags)
    {
        await using NbdFixture fixture = new();
        byte[] request = NbdTestClient.Request(type, 1, 4096, length, flags, type == NBD_CMD_WRITE ? new byte[length] : null);
        // The first run makes buffers, pools and compiled code; 40 requests reach every tier of them.
        Serve(fixture, structured, new RepeatingTransport(request, 40));
        RepeatingTransport transport = new(request, Count);
        long allocated = Serve(fixture, structured, transport);
        Assert.True(transport.SentBytes >= Count * 16L);
        // A connection costs its fixed part; one object per request would be 24 bytes times Count.
        Assert.InRange(allocated, 0, Count * 2);
    }

    private static long Serve(NbdFixture fixture, bool structured, RepeatingTransport transport)
    {
        using NbdTransmission transmission = new(transport, new NbdSession(fixture.Export, structured, BaseAllocation: false), NullLogger.Instance);
        long before = GC.GetAllocatedBytesForCurrentThread();
        transmission.Run();
        return GC.GetAllocatedBytesForCurrentThread() - before;
    }

    /// <summary>Sends the same request many times, in receives of any size, and drops the replies.</summary>
    private sealed class RepeatingTransport(byte[] request, int count) : INbdTransport
    {
        private long _position;

        public long SentBytes { get; private set; }

        public int Receive(Span<byte> buffer)
        {
            long total = (long)request.Length * count;
            int done = 0;
            while (done < buffer.Length && _position < total)
            {
                ReadOnlySpan<byte> piece = request.AsSpan((int)(_position % request.Length));
                int step = Math.Min(piece.Length, buffer.Length - done);
                piece[..step].CopyTo(buffer[done..]);
                done += step;
                _position += step;
            }

            return done;
        }

        public bool Send(ReadOnlySpan<byte> bytes)
        {
            SentBytes += bytes.Length;
            return true;
        }

        public void StopReceiving()
        {
        }

        public void Abort()
        {
        }

        public void Dispose()
        {
        }
    }
}
