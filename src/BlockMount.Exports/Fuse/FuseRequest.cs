using System.Diagnostics;
using System.Runtime.CompilerServices;
using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Exports.Fuse.Abi;
using Microsoft.Extensions.ObjectPool;

namespace BlockMount.Exports.Fuse;

/// <summary>
/// One request and its reply in one native buffer. Pooled: a worker takes it, fills it from its channel, and gives it back after the
/// reply was sent; while the device is busy with it, it belongs to the pending operation. Not thread-safe.
/// <code>
/// 0                    4016            4080            4096                     4096 + 1 MiB
/// | unused             | headers of a WRITE (80)       | payload of a WRITE      |   request frame starts at 4016
///                                      | out header 16 | payload of a READ reply |   reply frame starts at 4080
/// </code>
/// So payloads are page-aligned in both directions, and one write() sends header and data. The headers are copied out before the
/// reply is built over them.
/// </summary>
internal sealed unsafe class FuseRequest : IDisposable
{
    /// <summary>The largest READ or WRITE in bytes: what max_write and max_pages say to the kernel.</summary>
    internal const int PayloadMax = 1 << 20;

    /// <summary>Bytes of the longest headers in front of a payload: fuse_in_header and fuse_write_in.</summary>
    internal const int HeadersLength = 80;

    /// <summary>Bytes that a channel may put at <see cref="Frame"/>.</summary>
    internal const int FrameCapacity = HeadersLength + PayloadMax;

    private const int PayloadOffset = AlignedBuffer.PageSize;
    private const int InHeaderLength = 40;
    private const int OutHeaderLength = 16;

    private readonly AlignedBuffer _buffer;
    private readonly Memory<byte> _payload;
    private readonly Action _resume;

    private fuse_in_header _header;
    private int _frameLength;

    // Set while the request waits for the device.
    private FuseWorker? _suspendedBy;
    private ValueTask<int> _reply;

    internal FuseRequest()
    {
        _buffer = new AlignedBuffer(PayloadOffset + PayloadMax);
        _payload = _buffer.Memory[PayloadOffset..];
        _resume = Resume;
    }

    /// <summary>Where a channel puts the frame it received; room for <see cref="FrameCapacity"/> bytes.</summary>
    internal byte* Frame => _buffer.Pointer + PayloadOffset - HeadersLength;

    /// <summary>What the frame asks for; 0 if it has no valid header.</summary>
    internal FuseOpcode Opcode => (FuseOpcode)_header.opcode;

    /// <summary>The inode asked about.</summary>
    internal ulong NodeId => _header.nodeid;

    /// <summary>Bytes that follow the in header, extensions included.</summary>
    internal int BodyLength => _frameLength - InHeaderLength;

    /// <summary>Where the reply frame begins.</summary>
    internal byte* ReplyFrame => _buffer.Pointer + PayloadOffset - OutHeaderLength;

    /// <summary>
    /// Takes the header out of a frame of <paramref name="frameLength"/> bytes.
    /// </summary>
    /// <returns>False if the frame is too short to be answered or lies about its length; then there is nobody to reply to.</returns>
    internal bool TryParse(int frameLength)
    {
        Debug.Assert(frameLength <= FrameCapacity);
        _frameLength = frameLength;
        if (frameLength < InHeaderLength)
        {
            _header = default;
            return false;
        }

        _header = Unsafe.ReadUnaligned<fuse_in_header>(Frame);
        return _header.len == (uint)frameLength;
    }

    /// <summary>Copies the operation's argument out of the frame; false if the frame is too short to hold it.</summary>
    internal bool TryGetArgument<T>(out T argument)
        where T : unmanaged
    {
        if (BodyLength < sizeof(T))
        {
            argument = default;
            return false;
        }

        argument = Unsafe.ReadUnaligned<T>(Frame + InHeaderLength);
        return true;
    }

    /// <summary>Copies as much of the argument as there is and zeros for the rest: structures that have grown over time.</summary>
    internal T GetArgumentPrefix<T>()
        where T : unmanaged
    {
        T argument = default;
        int length = Math.Clamp(BodyLength, 0, sizeof(T));
        Unsafe.CopyBlockUnaligned(&argument, Frame + InHeaderLength, (uint)length);
        return argument;
    }

    /// <summary>The first <paramref name="length"/> bytes of the payload area: a WRITE's data or a READ's answer.</summary>
    internal Memory<byte> Payload(int length) => _payload[..length];

    /// <summary>Builds an empty reply with an error (or success). Returns the length of the reply frame.</summary>
    internal int ReplyStatus(Errno error)
    {
        WriteOutHeader(OutHeaderLength, -(int)error);
        return OutHeaderLength;
    }

    /// <summary>Builds a successful reply with a structure, of which <paramref name="length"/> bytes are sent (default: all).</summary>
    internal int ReplyWith<T>(in T body, int? length = null)
        where T : unmanaged
    {
        Unsafe.WriteUnaligned(_buffer.Pointer + PayloadOffset, body);
        return ReplyPayload(length ?? sizeof(T));
    }

    /// <summary>Builds a successful reply whose <paramref name="length"/> bytes are in the payload area already.</summary>
    internal int ReplyPayload(int length)
    {
        WriteOutHeader(OutHeaderLength + length, 0);
        return OutHeaderLength + length;
    }

    /// <summary>
    /// Hands the request to <paramref name="reply"/>, which is not complete: when it is, <paramref name="worker"/> sends the reply
    /// and takes the request back, on the completing thread.
    /// </summary>
    internal void Suspend(ValueTask<int> reply, FuseWorker worker)
    {
        _suspendedBy = worker;
        _reply = reply;
        _reply.GetAwaiter().UnsafeOnCompleted(_resume);
    }

    /// <summary>Frees the native memory.</summary>
    public void Dispose() => ((IDisposable)_buffer).Dispose();

    private void Resume()
    {
        ValueTask<int> reply = _reply;
        FuseWorker worker = _suspendedBy!;
        _reply = default;
        _suspendedBy = null;
        // FuseDispatcher.HandleAsync turns every failure into a reply, so there is no exception here.
        worker.FinishSuspended(this, reply.GetAwaiter().GetResult());
    }

    private void WriteOutHeader(int length, int error) =>
        Unsafe.WriteUnaligned(ReplyFrame, new fuse_out_header { len = (uint)length, error = error, unique = _header.unique });

    /// <summary>How the pool of requests makes and resets them.</summary>
    internal sealed class PoolPolicy : IPooledObjectPolicy<FuseRequest>
    {
        /// <inheritdoc/>
        public FuseRequest Create() => new();

        /// <inheritdoc/>
        public bool Return(FuseRequest obj) => true;
    }
}
