using System.Buffers.Binary;
using System.Text;
using BlockMount.Exports.Nbd.Wire;
using static BlockMount.Exports.Nbd.Wire.NbdConstants;

namespace BlockMount.Tests.Exports.Nbd;

/// <summary>One reply to an option, with its content.</summary>
internal sealed record OptionAnswer(uint Option, uint Type, byte[] Content);

/// <summary>A complete reply to a request: its error (0 for success), its data, and the chunks it came in (none for simple replies).</summary>
internal sealed record Answer(ulong Cookie, uint Error, byte[] Data, List<(NbdReplyChunk Head, byte[] Content)> Chunks);

/// <summary>Speaks NBD byte by byte, so that tests can also speak it wrongly. Receives through two delegates: memory or a socket.</summary>
internal sealed class NbdTestClient(Action<byte[]> send, Func<int, byte[]?> receive)
{
    private bool _structured;

    public NbdTestClient(MemoryTransport transport)
        : this(bytes => transport.ClientSend(bytes), transport.ClientReceive)
    {
    }

    public void Send(params byte[] bytes) => send(bytes);

    public byte[] Receive(int length) => receive(length) ?? throw new EndOfStreamException();

    /// <summary>True if the server has hung up.</summary>
    public bool AtEnd() => receive(1) is null;

    public NbdGreeting Greet(uint flags = NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)
    {
        Xunit.Assert.True(NbdGreeting.TryRead(Receive(NbdGreeting.Size), out NbdGreeting greeting));
        byte[] wire = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(wire, flags);
        Send(wire);
        return greeting;
    }

    public static byte[] Option(uint option, byte[] data)
    {
        byte[] wire = new byte[NbdOptionHeader.Size + data.Length];
        new NbdOptionHeader(option, (uint)data.Length).Write(wire);
        data.CopyTo(wire, NbdOptionHeader.Size);
        return wire;
    }

    /// <summary>Sends an option and collects the answers up to the final one.</summary>
    public List<OptionAnswer> Ask(uint option, params byte[] data)
    {
        Send(Option(option, data));
        List<OptionAnswer> answers = [];
        do
        {
            answers.Add(ReceiveOptionAnswer());
            Xunit.Assert.Equal(option, answers[^1].Option);
        }
        while (answers[^1].Type is NBD_REP_INFO or NBD_REP_SERVER or NBD_REP_META_CONTEXT);
        return answers;
    }

    public OptionAnswer ReceiveOptionAnswer()
    {
        Xunit.Assert.True(NbdOptionReply.TryRead(Receive(NbdOptionReply.Size), out NbdOptionReply reply));
        return new OptionAnswer(reply.Option, reply.Type, Receive((int)reply.Length));
    }

    public static byte[] GoData(string name, params ushort[] requests)
    {
        using MemoryStream data = new();
        WriteText(data, name);
        WriteBigEndian(data, (ulong)requests.Length, 2);
        foreach (ushort request in requests)
        {
            WriteBigEndian(data, request, 2);
        }

        return data.ToArray();
    }

    public static byte[] MetaData(string name, params string[] queries)
    {
        using MemoryStream data = new();
        WriteText(data, name);
        WriteBigEndian(data, (ulong)queries.Length, 4);
        foreach (string query in queries)
        {
            WriteText(data, query);
        }

        return data.ToArray();
    }

    /// <summary>A whole handshake up to transmission.</summary>
    public void Enter(string name, bool structured = true, bool metaContext = true)
    {
        Greet();
        if (structured)
        {
            Xunit.Assert.Equal(NBD_REP_ACK, Ask(NBD_OPT_STRUCTURED_REPLY)[^1].Type);
            if (metaContext)
            {
                Xunit.Assert.Equal(NBD_REP_ACK, Ask(NBD_OPT_SET_META_CONTEXT, MetaData(name, "base:allocation"))[^1].Type);
            }
        }

        Xunit.Assert.Equal(NBD_REP_ACK, Ask(NBD_OPT_GO, GoData(name))[^1].Type);
        _structured = structured;
    }

    /// <summary>Enters transmission after options that the test has sent itself, structured replies among them.</summary>
    public void GoStructured(string name)
    {
        Xunit.Assert.Equal(NBD_REP_ACK, Ask(NBD_OPT_GO, GoData(name))[^1].Type);
        _structured = true;
    }

    /// <summary>Sends an option, skips the answers to options sent before, and returns the type of its first answer.</summary>
    public uint AskLast(uint option)
    {
        Send(Option(option, []));
        OptionAnswer answer;
        do
        {
            answer = ReceiveOptionAnswer();
        }
        while (answer.Option != option);
        return answer.Type;
    }

    public static byte[] Request(ushort type, ulong cookie, ulong offset, uint length, ushort flags = 0, byte[]? payload = null)
    {
        byte[] wire = new byte[NbdRequestHeader.Size + (payload?.Length ?? 0)];
        new NbdRequestHeader(flags, type, cookie, offset, length).Write(wire);
        payload?.CopyTo(wire, NbdRequestHeader.Size);
        return wire;
    }

    /// <summary>Sends a request and returns its reply, which must be the next one.</summary>
    public Answer Call(ushort type, ulong offset, uint length, ushort flags = 0, byte[]? payload = null)
    {
        const ulong Cookie = 0x1122334455667788;
        Send(Request(type, Cookie, offset, length, flags, payload));
        Answer answer = ReceiveAnswer(type == NBD_CMD_READ ? length : 0, offset);
        Xunit.Assert.Equal(Cookie, answer.Cookie);
        return answer;
    }

    /// <param name="readLength">Bytes that a successful reply carries.</param>
    /// <param name="readOffset">Where they were asked from.</param>
    public Answer ReceiveAnswer(uint readLength, ulong readOffset) => ReceiveAnswerByCookie(readLength, _ => readOffset);

    /// <param name="readLength">Bytes that a successful reply carries.</param>
    /// <param name="readOffset">Where they were asked from, by cookie.</param>
    public Answer ReceiveAnswerByCookie(uint readLength, Func<ulong, ulong> readOffset)
    {
        byte[] magic = Receive(4);
        if (BinaryPrimitives.ReadUInt32BigEndian(magic) == NBD_SIMPLE_REPLY_MAGIC)
        {
            Xunit.Assert.True(NbdSimpleReply.TryRead([.. magic, .. Receive(NbdSimpleReply.Size - 4)], out NbdSimpleReply simple));
            Xunit.Assert.False(_structured && readLength > 0, "a simple reply to a read in structured mode");
            return new Answer(simple.Cookie, simple.Error, simple.Error == 0 ? Receive((int)readLength) : [], []);
        }

        Xunit.Assert.True(_structured, "a structured reply that was not negotiated");
        byte[] data = new byte[readLength];
        Answer answer = new(0, 0, data, []);
        while (true)
        {
            Xunit.Assert.True(NbdReplyChunk.TryRead([.. magic, .. Receive(NbdReplyChunk.Size - 4)], out NbdReplyChunk head));
            byte[] content = Receive((int)head.Length);
            answer.Chunks.Add((head, content));
            answer = answer with { Cookie = head.Cookie };
            if (head.Type == NBD_REPLY_TYPE_OFFSET_DATA)
            {
                content.AsSpan(8).CopyTo(data.AsSpan((int)(BinaryPrimitives.ReadUInt64BigEndian(content) - readOffset(head.Cookie))));
            }
            else if (head.Type == NBD_REPLY_TYPE_ERROR)
            {
                answer = answer with { Error = BinaryPrimitives.ReadUInt32BigEndian(content) };
            }

            if ((head.Flags & NBD_REPLY_FLAG_DONE) != 0)
            {
                return answer;
            }

            magic = Receive(4);
        }
    }

    private static void WriteText(MemoryStream data, string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        WriteBigEndian(data, (ulong)bytes.Length, 4);
        data.Write(bytes);
    }

    private static void WriteBigEndian(MemoryStream data, ulong value, int size)
    {
        for (int shift = 8 * (size - 1); shift >= 0; shift -= 8)
        {
            data.WriteByte((byte)(value >> shift));
        }
    }
}
