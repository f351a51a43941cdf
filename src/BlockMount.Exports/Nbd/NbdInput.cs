using System.Diagnostics;
using BlockMount.Base.Buffers;

namespace BlockMount.Exports.Nbd;

/// <summary>
/// Memory that requests were received into. Writes that do not complete at once keep it in use: the receiver then goes on with
/// another one, so payloads are never copied on the way to the device. Goes back to the pool with its last user.
/// </summary>
internal sealed class NbdInputBuffer
{
    private readonly AlignedBuffer _memory;
    private int _users = 1;

    /// <summary>The creator is the first user.</summary>
    public NbdInputBuffer(int length) => _memory = AlignedBufferPool.Shared.Rent(length);

    /// <summary>The bytes; only for users.</summary>
    public Memory<byte> Memory => _memory.Memory;

    /// <summary>True if only the caller, a user, is left.</summary>
    public bool IsExclusive => Volatile.Read(ref _users) == 1;

    /// <summary>A user adds another one.</summary>
    public void AddUser() => Interlocked.Increment(ref _users);

    /// <summary>A user ends its use.</summary>
    public void Release()
    {
        int left = Interlocked.Decrement(ref _users);
        Debug.Assert(left >= 0, "an input buffer was released twice");
        if (left == 0)
        {
            AlignedBufferPool.Shared.Return(_memory);
        }
    }
}

/// <summary>
/// The receiving side of a connection: one large buffer that a single receive fills with many requests, parsed in place.
/// Used by the connection's thread only.
/// </summary>
internal sealed class NbdInput : IDisposable
{
    /// <summary>Bytes of the buffer. Requests up to half of it are handled in place.</summary>
    public const int Capacity = 256 << 10;

    // A receive into less room than this would cost a system call for little: the rest is moved to the front first.
    private const int RoomMin = Capacity / 4;

    private readonly INbdTransport _transport;
    private NbdInputBuffer _buffer = new(Capacity);

    // [_start, _end) has been received and not consumed.
    private int _start;
    private int _end;

    public NbdInput(INbdTransport transport) => _transport = transport;

    /// <summary>Bytes received and not consumed.</summary>
    public int Available => _end - _start;

    /// <summary>The buffer that <see cref="Peek"/> shows; add a user to keep it beyond the next receive.</summary>
    public NbdInputBuffer Buffer => _buffer;

    /// <summary>The next <paramref name="length"/> bytes, which are available.</summary>
    public Memory<byte> Peek(int length)
    {
        Debug.Assert(length <= Available);
        return _buffer.Memory.Slice(_start, length);
    }

    /// <summary>Drops bytes that are available.</summary>
    public void Consume(int length)
    {
        Debug.Assert(length <= Available);
        _start += length;
    }

    /// <summary>Waits for more bytes, such that <paramref name="needed"/> (at most half the capacity) will fit. False at the end of the stream.</summary>
    public bool Receive(int needed)
    {
        Debug.Assert(needed <= Capacity / 2);
        MakeRoom(needed);
        int received = _transport.Receive(_buffer.Memory.Span[_end..]);
        _end += received;
        return received > 0;
    }

    /// <summary>Fills <paramref name="destination"/> from what is available and then straight from the client. False at the end of the stream.</summary>
    public bool ReceiveInto(Span<byte> destination)
    {
        int ready = Math.Min(Available, destination.Length);
        Peek(ready).Span.CopyTo(destination);
        Consume(ready);
        destination = destination[ready..];
        while (!destination.IsEmpty)
        {
            int received = _transport.Receive(destination);
            if (received == 0)
            {
                return false;
            }

            destination = destination[received..];
        }

        return true;
    }

    /// <summary>Drops the next <paramref name="length"/> bytes, receiving as needed. False at the end of the stream.</summary>
    public bool Skip(long length)
    {
        while (length > Available)
        {
            length -= Available;
            Consume(Available);
            if (!Receive(1))
            {
                return false;
            }
        }

        Consume((int)length);
        return true;
    }

    /// <summary>Ends the connection's own use of the buffer.</summary>
    public void Dispose() => _buffer.Release();

    private void MakeRoom(int needed)
    {
        bool exclusive = _buffer.IsExclusive;
        if (_start == _end && exclusive)
        {
            _start = 0;
            _end = 0;
            return;
        }

        if (Capacity - _start >= needed && Capacity - _end >= RoomMin)
        {
            return;
        }

        NbdInputBuffer target = exclusive ? _buffer : new NbdInputBuffer(Capacity);
        Peek(Available).CopyTo(target.Memory);
        if (target != _buffer)
        {
            _buffer.Release();
            _buffer = target;
        }

        _end -= _start;
        _start = 0;
    }
}
