using System.Buffers.Binary;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using BlockMount.Base.Buffers;
using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Exports.Nbd.Wire;
using BlockMount.Formats;
using static BlockMount.Exports.Nbd.Wire.NbdConstants;

namespace BlockMount.Exports.Nbd;

/// <summary>
/// A request that is not, or may not be, done at once: it carries what must live until its reply is sent. Pooled by its
/// <see cref="NbdTransmission"/>. Owns its buffer and its use of an input buffer until <see cref="Reset"/>.
/// </summary>
internal sealed class NbdRequest
{
    /// <summary>Most extents in one block status reply (FEATURES X5).</summary>
    public const int ExtentsMax = 131072;

    // Large reads are read and sent piece by piece: the client works on one while the next is read.
    private const int FragmentBytes = 256 << 10;

    private const int PrefetchBytesMax = NbdExport.RequestBytesMax;

    private readonly NbdTransmission _owner;
    private readonly Action _resume;
    private readonly byte[] _shortReply = new byte[NbdReplyBatch.ErrorSizeMax];

    private NbdRequestHeader _header;
    private ValueTaskAwaiter _awaiter;

    // Data of a write, reply of a read or of block status; see _reply.
    private AlignedBuffer? _buffer;
    private NbdInputBuffer? _input;
    private ReadOnlyMemory<byte> _reply;

    public NbdRequest(NbdTransmission owner)
    {
        _owner = owner;
        _resume = Resume;
    }

    /// <summary>The bytes to send once the request is finished.</summary>
    public ReadOnlyMemory<byte> Reply => _reply;

    private BlockDevice Device => _owner.Device;

    private long Offset => (long)_header.Offset;

    private bool Fua => (_header.Flags & NBD_CMD_FLAG_FUA) != 0;

    /// <summary>Slots of the connection that the request holds; see <see cref="NbdTransmission"/>.</summary>
    public int SlotCount { get; private set; }

    /// <summary>Starts a use of the object.</summary>
    public void Init(in NbdRequestHeader header, int slotCount)
    {
        Debug.Assert(_buffer is null);
        Debug.Assert(_input is null);
        _header = header;
        SlotCount = slotCount;
        _reply = default;
    }

    /// <summary>Ends a use: gives the memory back.</summary>
    public void Reset()
    {
        _reply = default;
        _input?.Release();
        _input = null;
        ReturnBuffer();
    }

    /// <summary>Takes over a buffer that will hold the finished reply at the given place.</summary>
    public void TakeReply(AlignedBuffer buffer, int start, int length)
    {
        _buffer = buffer;
        _reply = buffer.Memory.Slice(start, length);
    }

    /// <summary>The device still reads the payload from <paramref name="input"/>: keeps it.</summary>
    public void Hold(NbdInputBuffer input)
    {
        input.AddUser();
        _input = input;
    }

    /// <summary>A buffer for the payload of a write, owned by the request.</summary>
    public Memory<byte> RentPayload()
    {
        _buffer = AlignedBufferPool.Shared.Rent((int)_header.Length);
        return _buffer.Memory[..(int)_header.Length];
    }

    /// <summary>Waits for <paramref name="operation"/> in the background, then sends the reply and ends the request.</summary>
    public void Continue(ValueTaskAwaiter operation)
    {
        _awaiter = operation;
        _awaiter.UnsafeOnCompleted(_resume);
    }

    /// <summary>Takes the outcome of a completed operation and makes the reply.</summary>
    public void Finish(ValueTaskAwaiter completed)
    {
        try
        {
            completed.GetResult();
            if (_reply.IsEmpty)
            {
                _reply = _shortReply.AsMemory(0, NbdReplyBatch.WriteSuccess(_shortReply, _owner.Structured, _header));
            }
        }
        catch (Exception error)
        {
            uint value = _owner.ReportFailure(_header, error, out string message);
            _reply = _shortReply.AsMemory(0, NbdReplyBatch.WriteError(_shortReply, _owner.Structured, _header.Cookie, value, message));
        }
    }

    /// <summary>The reply has been sent.</summary>
    public void End() => _owner.End(this);

    /// <summary>Carries the request out, up to the reply: everything but short reads and writes that are in the input buffer.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    public async ValueTask RunAsync()
    {
        switch (_header.Type)
        {
            case NBD_CMD_READ:
                await (_owner.Structured && (_header.Flags & NBD_CMD_FLAG_DF) == 0 ? ReadInFragmentsAsync() : ReadWholeAsync());
                break;
            case NBD_CMD_WRITE:
                await Device.WriteAsync(Offset, _buffer!.Memory[..(int)_header.Length], Fua);
                break;
            case NBD_CMD_FLUSH:
                await Device.FlushAsync();
                break;
            case NBD_CMD_TRIM:
                await Device.DiscardAsync(Offset, _header.Length, Fua);
                break;
            case NBD_CMD_CACHE:
                await PrefetchAsync();
                break;
            case NBD_CMD_WRITE_ZEROES:
                bool keep = (_header.Flags & NBD_CMD_FLAG_NO_HOLE) != 0;
                await Device.ZeroAsync(Offset, _header.Length, keep ? ZeroFlags.None : ZeroFlags.MayUnmap, Fua);
                break;
            case NBD_CMD_BLOCK_STATUS:
                await BlockStatusAsync();
                break;
            default:
                throw new UnreachableException();
        }
    }

    private void Resume()
    {
        Finish(_awaiter);
        _owner.Complete(this);
    }

    private async ValueTask ReadWholeAsync()
    {
        int headSize = NbdReplyBatch.ReadHeadSize(_owner.Structured);
        int length = (int)_header.Length;
        _buffer = AlignedBufferPool.Shared.Rent(AlignedBuffer.PageSize + length);
        // The data starts on a page boundary, its head ends there.
        int start = AlignedBuffer.PageSize - headSize;
        NbdReplyBatch.WriteReadHead(_buffer.GetSpan()[start..], _owner.Structured, _header);
        await Device.ReadAsync(Offset, _buffer.Memory.Slice(AlignedBuffer.PageSize, length));
        _reply = _buffer.Memory.Slice(start, headSize + length);
    }

    // Sends every chunk but the last itself. A failure in between is told by an error chunk, which ends the reply.
    private async ValueTask ReadInFragmentsAsync()
    {
        _buffer = AlignedBufferPool.Shared.Rent(AlignedBuffer.PageSize + FragmentBytes);
        long offset = Offset;
        long end = offset + _header.Length;
        while (true)
        {
            long length = Math.Min(end - offset, FragmentBytes);
            bool zero = false;
            if (_owner.StatusIsCheap)
            {
                BlockStatus status = await Device.StatusAsync(offset, end - offset);
                zero = status.IsZero;
                length = zero ? status.Length : Math.Min(status.Length, FragmentBytes);
            }

            ushort flags = offset + length == end ? NBD_REPLY_FLAG_DONE : (ushort)0;
            ReadOnlyMemory<byte> chunk = zero ? HoleChunk(flags, offset, length) : await DataChunkAsync(flags, offset, (int)length);
            offset += length;
            if (offset == end)
            {
                _reply = chunk;
                return;
            }

            await _owner.Sender.SendPartAsync(chunk);
        }
    }

    private ReadOnlyMemory<byte> HoleChunk(ushort flags, long offset, long length)
    {
        NbdReplyChunk.WriteOffsetHole(_buffer!.GetSpan(), flags, _header.Cookie, (ulong)offset, (uint)length);
        return _buffer.Memory[..NbdReplyChunk.OffsetHoleSize];
    }

    private async ValueTask<ReadOnlyMemory<byte>> DataChunkAsync(ushort flags, long offset, int length)
    {
        const int Start = AlignedBuffer.PageSize - NbdReplyChunk.OffsetDataHeadSize;
        await Device.ReadAsync(offset, _buffer!.Memory.Slice(AlignedBuffer.PageSize, length));
        NbdReplyChunk.WriteOffsetData(_buffer.GetSpan()[Start..], flags, _header.Cookie, (ulong)offset, length);
        return _buffer.Memory.Slice(Start, NbdReplyChunk.OffsetDataHeadSize + length);
    }

    // NBD_CMD_CACHE is advice: reading brings the bytes into the page cache. Longer requests are served in part.
    private async ValueTask PrefetchAsync()
    {
        if (_header.Length == 0)
        {
            return;
        }

        _buffer = AlignedBufferPool.Shared.Rent((int)Math.Min(_header.Length, FragmentBytes));
        long offset = Offset;
        long end = offset + Math.Min(_header.Length, PrefetchBytesMax);
        while (offset < end)
        {
            int step = (int)Math.Min(end - offset, _buffer.Length);
            await Device.ReadAsync(offset, _buffer.Memory[..step]);
            offset += step;
        }
    }

    private async ValueTask BlockStatusAsync()
    {
        int extentsMax = (_header.Flags & NBD_CMD_FLAG_REQ_ONE) != 0 ? 1 : ExtentsMax;
        _buffer = AlignedBufferPool.Shared.Rent(AlignedBuffer.PageSize);
        int count = 0;
        uint runLength = 0;
        uint runFlags = 0;
        long offset = Offset;
        long end = offset + _header.Length;
        while (offset < end)
        {
            BlockStatus status = await Device.StatusAsync(offset, end - offset);
            uint flags = (status.IsZero ? NBD_STATE_ZERO : 0) | (status.IsAllocated ? 0 : NBD_STATE_HOLE);
            if (runLength > 0 && flags != runFlags)
            {
                AddExtent(count++, runLength, runFlags);
                runLength = 0;
                if (count == extentsMax)
                {
                    break;
                }
            }

            runFlags = flags;
            runLength += (uint)status.Length;
            offset += status.Length;
        }

        if (runLength > 0)
        {
            AddExtent(count++, runLength, runFlags);
        }

        uint content = 4 + (uint)(count * NbdReplyChunk.ExtentSize);
        Span<byte> wire = _buffer.GetSpan();
        new NbdReplyChunk(NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_BLOCK_STATUS, _header.Cookie, content).Write(wire);
        BinaryPrimitives.WriteUInt32BigEndian(wire[NbdReplyChunk.Size..], MetaContexts.BaseAllocationId);
        _reply = _buffer.Memory[..(NbdReplyChunk.Size + (int)content)];
    }

    private void AddExtent(int index, uint length, uint flags)
    {
        int position = NbdReplyChunk.BlockStatusHeadSize + index * NbdReplyChunk.ExtentSize;
        if (position + NbdReplyChunk.ExtentSize > _buffer!.Length)
        {
            AlignedBuffer larger = AlignedBufferPool.Shared.Rent(_buffer.Length * 2);
            _buffer.GetSpan().CopyTo(larger.GetSpan());
            ReturnBuffer();
            _buffer = larger;
        }

        Span<byte> extent = _buffer.GetSpan()[position..];
        BinaryPrimitives.WriteUInt32BigEndian(extent, length);
        BinaryPrimitives.WriteUInt32BigEndian(extent[4..], flags);
    }

    private void ReturnBuffer()
    {
        if (_buffer is { } buffer)
        {
            _buffer = null;
            AlignedBufferPool.Shared.Return(buffer);
        }
    }
}
