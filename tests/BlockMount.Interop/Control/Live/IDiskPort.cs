using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text;
using BlockMount.TestSupport;
using static BlockMount.Exports.Nbd.Wire.NbdConstants;

namespace BlockMount.Interop.Control.Live;

/// <summary>One way to a served disk; a call returns when it is answered. One thread.</summary>
internal interface IDiskPort : IDisposable
{
    /// <summary>Fills the buffer.</summary>
    /// <exception cref="IOException">Refused, or cut off.</exception>
    public void Read(long offset, byte[] buffer, int length);

    /// <summary>Writes the beginning of the buffer.</summary>
    /// <exception cref="IOException">Refused, or cut off.</exception>
    public void Write(long offset, byte[] buffer, int length);

    /// <summary>Makes durable what was written.</summary>
    public void Flush();
}

/// <summary>The mounted file. It is served past the page cache (FOPEN_DIRECT_IO): every read asks the daemon.</summary>
internal sealed class FilePort(string path) : IDiskPort
{
    private readonly FileStream _file = new(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0);

    public void Read(long offset, byte[] buffer, int length)
    {
        int count = RandomAccess.Read(_file.SafeFileHandle, buffer.AsSpan(0, length), offset);
        if (count != length)
        {
            throw new IOException($"{count} of {length} bytes were read at {offset}");
        }
    }

    public void Write(long offset, byte[] buffer, int length) => RandomAccess.Write(_file.SafeFileHandle, buffer.AsSpan(0, length), offset);

    public void Flush() => CheckedFlush.Run(_file.SafeFileHandle);

    public void Dispose() => _file.Dispose();
}

/// <summary>A connection to an NBD export, with simple replies and one request at a time.</summary>
internal sealed class NbdPort : IDiskPort
{
    private const int ReplyBytes = 16;

    private readonly Socket _socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly byte[] _wire = new byte[28];
    private ulong _cookie;

    /// <summary>Connects and opens the export.</summary>
    public NbdPort(string socketPath, string export)
    {
        _socket.ReceiveTimeout = 60_000;
        _socket.Connect(new UnixDomainSocketEndPoint(socketPath));
        // The greeting: two magic numbers and the flags.
        Receive(new byte[18]);
        byte[] name = Encoding.UTF8.GetBytes(export);
        byte[] go = new byte[4 + 16 + 4 + name.Length + 2];
        BinaryPrimitives.WriteUInt32BigEndian(go, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
        BinaryPrimitives.WriteUInt64BigEndian(go.AsSpan(4), IHAVEOPT);
        BinaryPrimitives.WriteUInt32BigEndian(go.AsSpan(12), NBD_OPT_GO);
        BinaryPrimitives.WriteUInt32BigEndian(go.AsSpan(16), (uint)(4 + name.Length + 2));
        BinaryPrimitives.WriteUInt32BigEndian(go.AsSpan(20), (uint)name.Length);
        name.CopyTo(go, 24);
        _ = _socket.Send(go);
        ReceiveOptionReplies();
    }

    public void Read(long offset, byte[] buffer, int length)
    {
        Request(NBD_CMD_READ, offset, length, []);
        Receive(buffer.AsSpan(0, length));
    }

    public void Write(long offset, byte[] buffer, int length) => Request(NBD_CMD_WRITE, offset, length, buffer.AsSpan(0, length));

    public void Flush() => Request(NBD_CMD_FLUSH, 0, 0, []);

    public void Dispose() => _socket.Dispose();

    // Information, and in the end the acknowledgement.
    private void ReceiveOptionReplies()
    {
        byte[] head = new byte[20];
        uint type;
        do
        {
            Receive(head);
            type = BinaryPrimitives.ReadUInt32BigEndian(head.AsSpan(12));
            Receive(new byte[BinaryPrimitives.ReadUInt32BigEndian(head.AsSpan(16))]);
        }
        while (type == NBD_REP_INFO);
        if (type != NBD_REP_ACK)
        {
            throw new IOException($"NBD_OPT_GO is answered by {type:x}");
        }
    }

    // Sends it and receives the reply up to its data.
    private void Request(ushort type, long offset, int length, ReadOnlySpan<byte> payload)
    {
        new Exports.Nbd.Wire.NbdRequestHeader(0, type, ++_cookie, (ulong)offset, (uint)length).Write(_wire);
        Send(_wire);
        Send(payload);
        Receive(_wire.AsSpan(0, ReplyBytes));
        uint error = BinaryPrimitives.ReadUInt32BigEndian(_wire.AsSpan(4));
        if (BinaryPrimitives.ReadUInt32BigEndian(_wire) != NBD_SIMPLE_REPLY_MAGIC || BinaryPrimitives.ReadUInt64BigEndian(_wire.AsSpan(8)) != _cookie || error != 0)
        {
            throw new IOException($"request {type} at {offset} is answered by error {error}");
        }
    }

    private void Send(ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            bytes = bytes[_socket.Send(bytes)..];
        }
    }

    private void Receive(Span<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            int count = _socket.Receive(bytes);
            bytes = count > 0 ? bytes[count..] : throw new IOException("the server has hung up");
        }
    }
}
