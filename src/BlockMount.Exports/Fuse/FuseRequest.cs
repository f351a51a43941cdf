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
/// <para>An entry of a ring has the same buffer in another order, because the kernel keeps headers and payload apart there:
/// <code>
/// 0                     128                   256              288     4096                     4096 + 1 MiB
/// | in header,          | argument of the     | fuse_uring_    | unused | payload of a WRITE,     |
/// | then out header     | operation           | ent_in_out     |        | then body of the reply  |
/// </code></para>
/// </summary>
internal sealed unsafe class FuseRequest : IThreadPoolWorkItem, IDisposable
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

    // Where the kernel puts the in header and the argument, and where it wants the out header.
    private readonly byte* _inHeader;
    private readonly byte* _argument;
    private readonly byte* _outHeader;

    private fuse_in_header _header;
    private int _bodyLength;
    private int _argumentLength;

    // Set while the request waits for the device.
    private IFuseReplier? _suspendedBy;
    private ValueTask<int> _reply;

    /// <summary>A request that comes through a channel.</summary>
    internal FuseRequest()
        : this(PayloadOffset - HeadersLength, PayloadOffset - HeadersLength + InHeaderLength, PayloadOffset - OutHeaderLength)
    {
    }

    private FuseRequest(int inHeader, int argument, int outHeader)
    {
        _buffer = new AlignedBuffer(PayloadOffset + PayloadMax);
        _payload = _buffer.Memory[PayloadOffset..];
        _resume = Resume;
        _inHeader = _buffer.Pointer + inHeader;
        _argument = _buffer.Pointer + argument;
        _outHeader = _buffer.Pointer + outHeader;
    }

    /// <summary>A request that comes through an entry of a ring.</summary>
    internal static FuseRequest ForRing() => new(0, fuse_uring_req_header.OpInOffset, 0);

    /// <summary>Where a channel puts the frame it received; room for <see cref="FrameCapacity"/> bytes.</summary>
    internal byte* Frame => _inHeader;

    /// <summary>In an entry of a ring: the page that begins with fuse_uring_req_header.</summary>
    internal byte* RingHeader => _buffer.Pointer;

    /// <summary>In an entry of a ring: where the kernel puts and takes payload, <see cref="PayloadMax"/> bytes.</summary>
    internal byte* RingPayload => _buffer.Pointer + PayloadOffset;

    /// <summary>In an entry of a ring: its number there, and the queue of the kernel that it belongs to.</summary>
    internal (int Index, ushort Queue) RingPlace { get; set; }

    /// <summary>The next one in a list of whoever has the request.</summary>
    internal FuseRequest? Next { get; set; }

    /// <summary>What the frame asks for; 0 if it has no valid header.</summary>
    internal FuseOpcode Opcode => (FuseOpcode)_header.opcode;

    /// <summary>The inode asked about.</summary>
    internal ulong NodeId => _header.nodeid;

    /// <summary>Bytes that follow the in header, extensions included.</summary>
    internal int BodyLength => _bodyLength;

    /// <summary>Where the reply frame begins; not in an entry of a ring.</summary>
    internal byte* ReplyFrame => _outHeader;

    /// <summary>Bytes of the reply that follow its header, once it is complete.</summary>
    internal int ReplyBodyLength { get; private set; }

    /// <summary>
    /// Takes the header out of a frame of <paramref name="frameLength"/> bytes.
    /// </summary>
    /// <returns>False if the frame is too short to be answered or lies about its length; then there is nobody to reply to.</returns>
    internal bool TryParse(int frameLength)
    {
        Debug.Assert(frameLength <= FrameCapacity);
        _bodyLength = _argumentLength = frameLength - InHeaderLength;
        if (frameLength < InHeaderLength)
        {
            _header = default;
            return false;
        }

        _header = Unsafe.ReadUnaligned<fuse_in_header>(_inHeader);
        return _header.len == (uint)frameLength;
    }

    /// <summary>Takes the header out of an entry of a ring.</summary>
    /// <returns>False if it lies about its lengths; it must be answered all the same.</returns>
    internal bool TryParseRing()
    {
        _header = Unsafe.ReadUnaligned<fuse_in_header>(_inHeader);
        uint payload = ((fuse_uring_req_header*)RingHeader)->ring_ent_in_out.payload_sz;
        long body = _header.len - (long)InHeaderLength;
        if (payload > PayloadMax || body < payload || body - payload > fuse_uring_req_header.OpInLength)
        {
            return false;
        }

        _bodyLength = (int)body;
        _argumentLength = (int)(body - payload);
        return true;
    }

    /// <summary>Bytes of guest data that the request moves: of a READ what it asks for, otherwise what came with it.</summary>
    internal int TransferLength =>
        Opcode == FuseOpcode.FUSE_READ && TryGetArgument(out fuse_read_in read) ? (int)Math.Min(read.size, PayloadMax) : Math.Max(_bodyLength - _argumentLength, 0);

    /// <summary>Copies the operation's argument out of the frame; false if the frame is too short to hold it.</summary>
    internal bool TryGetArgument<T>(out T argument)
        where T : unmanaged
    {
        if (_argumentLength < sizeof(T))
        {
            argument = default;
            return false;
        }

        argument = Unsafe.ReadUnaligned<T>(_argument);
        return true;
    }

    /// <summary>Copies as much of the argument as there is and zeros for the rest: structures that have grown over time.</summary>
    internal T GetArgumentPrefix<T>()
        where T : unmanaged
    {
        T argument = default;
        int length = Math.Clamp(_argumentLength, 0, sizeof(T));
        Unsafe.CopyBlockUnaligned(&argument, _argument, (uint)length);
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
        Unsafe.WriteUnaligned(RingPayload, body);
        return ReplyPayload(length ?? sizeof(T));
    }

    /// <summary>Builds a successful reply whose <paramref name="length"/> bytes are in the payload area already.</summary>
    internal int ReplyPayload(int length)
    {
        WriteOutHeader(OutHeaderLength + length, 0);
        return OutHeaderLength + length;
    }

    /// <summary>
    /// Hands the request to <paramref name="reply"/>, which is not complete: when it is, <paramref name="replier"/> sends the reply
    /// and takes the request back, on the completing thread.
    /// </summary>
    internal void Suspend(ValueTask<int> reply, IFuseReplier replier)
    {
        _suspendedBy = replier;
        _reply = reply;
        _reply.GetAwaiter().UnsafeOnCompleted(_resume);
    }

    /// <summary>Hands the request to a thread of the pool, which lets <paramref name="replier"/> serve it there.</summary>
    internal void Offload(IFuseReplier replier)
    {
        _suspendedBy = replier;
        ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
    }

    /// <inheritdoc/>
    void IThreadPoolWorkItem.Execute()
    {
        IFuseReplier replier = _suspendedBy!;
        _suspendedBy = null;
        replier.ServeOffloaded(this);
    }

    /// <summary>Frees the native memory.</summary>
    public void Dispose() => ((IDisposable)_buffer).Dispose();

    private void Resume()
    {
        ValueTask<int> reply = _reply;
        IFuseReplier replier = _suspendedBy!;
        _reply = default;
        _suspendedBy = null;
        // FuseDispatcher.HandleAsync turns every failure into a reply, so there is no exception here.
        replier.FinishSuspended(this, reply.GetAwaiter().GetResult());
    }

    private void WriteOutHeader(int length, int error)
    {
        Unsafe.WriteUnaligned(_outHeader, new fuse_out_header { len = (uint)length, error = error, unique = _header.unique });
        ReplyBodyLength = length - OutHeaderLength;
    }

    /// <summary>How the pool of requests makes and resets them.</summary>
    internal sealed class PoolPolicy : IPooledObjectPolicy<FuseRequest>
    {
        /// <inheritdoc/>
        public FuseRequest Create() => new();

        /// <inheritdoc/>
        public bool Return(FuseRequest obj) => true;
    }
}
