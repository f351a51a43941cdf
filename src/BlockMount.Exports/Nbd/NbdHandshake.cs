using System.Buffers;
using System.Buffers.Binary;
using System.Text;
using BlockMount.Exports.Nbd.Wire;
using static BlockMount.Exports.Nbd.Wire.NbdConstants;

namespace BlockMount.Exports.Nbd;

/// <summary>
/// The fixed newstyle handshake of one client ("option haggling"), on the connection's thread. It receives exactly what it
/// needs, so the first request stays in the socket. Its time limit is the connection's: an abort makes the receive fail.
/// </summary>
internal sealed class NbdHandshake
{
    // An option longer than this is not looked at: it is skipped and refused, up to the second limit.
    private const int OptionBytesMax = 64 << 10;
    private const int SkippedBytesMax = 1 << 20;

    private readonly INbdTransport _transport;
    private readonly NbdExportTable _exports;

    // Answers to one option, sent together.
    private readonly ArrayBufferWriter<byte> _answer = new();

    private bool _noZeroes;
    private bool _structuredReplies;
    private MetaContexts? _contexts;

    public NbdHandshake(INbdTransport transport, NbdExportTable exports)
    {
        _transport = transport;
        _exports = exports;
    }

    /// <summary>Negotiates. Null when the client left by NBD_OPT_ABORT.</summary>
    /// <exception cref="NbdProtocolException">The client broke the protocol.</exception>
    /// <exception cref="NbdDisconnectedException">The client is gone.</exception>
    public NbdSession? Run()
    {
        Greet();
        byte[] data = new byte[OptionBytesMax];
        while (true)
        {
            NbdOptionHeader option = ReceiveOptionHeader();
            if (option.Length > OptionBytesMax)
            {
                RefuseOversized(option);
                continue;
            }

            Memory<byte> content = data.AsMemory(0, (int)option.Length);
            ReceiveExactly(content.Span);
            if (option.Option == NBD_OPT_ABORT)
            {
                Answer(option.Option, NBD_REP_ACK);
                // The client may be gone already, which is its right.
                _transport.Send(_answer.WrittenSpan);
                return null;
            }

            NbdSession? session = option.Option == NBD_OPT_EXPORT_NAME ? EnterByName(content.Span) : Handle(option.Option, content.Span);
            SendAnswer();
            if (session is not null)
            {
                return session;
            }
        }
    }

    private void Greet()
    {
        Span<byte> greeting = stackalloc byte[NbdGreeting.Size];
        new NbdGreeting(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES).Write(greeting);
        Send(greeting);
        Span<byte> wire = stackalloc byte[4];
        ReceiveExactly(wire);
        uint flags = BinaryPrimitives.ReadUInt32BigEndian(wire);
        if ((flags & NBD_FLAG_C_FIXED_NEWSTYLE) == 0 || (flags & ~(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)) != 0)
        {
            throw new NbdProtocolException($"client flags 0x{flags:x}: only the fixed newstyle handshake is served");
        }

        _noZeroes = (flags & NBD_FLAG_C_NO_ZEROES) != 0;
    }

    private NbdOptionHeader ReceiveOptionHeader()
    {
        Span<byte> wire = stackalloc byte[NbdOptionHeader.Size];
        ReceiveExactly(wire);
        return NbdOptionHeader.TryRead(wire, out NbdOptionHeader option)
            ? option
            : throw new NbdProtocolException("an option does not start with IHAVEOPT");
    }

    private void RefuseOversized(NbdOptionHeader option)
    {
        if (option.Length > SkippedBytesMax || option.Option == NBD_OPT_EXPORT_NAME)
        {
            throw new NbdProtocolException($"option {option.Option} has {option.Length} bytes of data");
        }

        Span<byte> skipped = stackalloc byte[4096];
        for (int rest = (int)option.Length; rest > 0;)
        {
            int step = Math.Min(rest, skipped.Length);
            ReceiveExactly(skipped[..step]);
            rest -= step;
        }

        AnswerError(option.Option, NBD_REP_ERR_TOO_BIG, "the option is too long");
        SendAnswer();
    }

    // NBD_OPT_EXPORT_NAME: no error can be told, so failure ends the connection.
    // 0: u64 size  8: u16 transmission flags  10: 124 zero bytes unless NO_ZEROES
    private NbdSession EnterByName(ReadOnlySpan<byte> name)
    {
        if (!NbdOptionReader.TryDecode(name, out string text) || _exports.Find(text) is not { } export)
        {
            throw new NbdProtocolException("the client asked for an export that does not exist");
        }

        int length = _noZeroes ? 10 : 134;
        Span<byte> wire = _answer.GetSpan(length)[..length];
        wire.Clear();
        BinaryPrimitives.WriteInt64BigEndian(wire, export.Size);
        BinaryPrimitives.WriteUInt16BigEndian(wire[8..], export.TransmissionFlags(_structuredReplies));
        _answer.Advance(length);
        return NewSession(export);
    }

    private NbdSession? Handle(uint option, ReadOnlySpan<byte> data)
    {
        switch (option)
        {
            case NBD_OPT_LIST:
                List(data);
                return null;
            case NBD_OPT_INFO:
                InfoOrGo(option, data);
                return null;
            case NBD_OPT_GO:
                return InfoOrGo(option, data) is { } export ? NewSession(export) : null;
            case NBD_OPT_STRUCTURED_REPLY:
                StructuredReply(data);
                return null;
            case NBD_OPT_LIST_META_CONTEXT:
            case NBD_OPT_SET_META_CONTEXT:
                MetaContext(option, data);
                return null;
            case NBD_OPT_STARTTLS:
                AnswerError(option, NBD_REP_ERR_UNSUP, "this server does not offer TLS");
                return null;
            default:
                AnswerError(option, NBD_REP_ERR_UNSUP, "unknown option");
                return null;
        }
    }

    private NbdSession NewSession(NbdExport export) =>
        new(export, _structuredReplies, _structuredReplies && _contexts is { BaseAllocation: true } contexts && contexts.Export == export);

    // NBD_REP_SERVER   0: u32 length of the name  4: name  then a description up to the end
    private void List(ReadOnlySpan<byte> data)
    {
        if (!data.IsEmpty)
        {
            AnswerError(NBD_OPT_LIST, NBD_REP_ERR_INVALID, "this option takes no data");
            return;
        }

        foreach (NbdExport export in _exports.ToArray())
        {
            byte[] name = Encoding.UTF8.GetBytes(export.Name);
            byte[] description = Encoding.UTF8.GetBytes(export.Description ?? "");
            byte[] content = new byte[4 + name.Length + description.Length];
            BinaryPrimitives.WriteInt32BigEndian(content, name.Length);
            name.CopyTo(content, 4);
            description.CopyTo(content, 4 + name.Length);
            Answer(NBD_OPT_LIST, NBD_REP_SERVER, content);
        }

        Answer(NBD_OPT_LIST, NBD_REP_ACK);
    }

    // 0: u32 length of the name  4: name  u16 number of requests  { u16 information type } ...
    private NbdExport? InfoOrGo(uint option, ReadOnlySpan<byte> data)
    {
        NbdOptionReader reader = new(data);
        if (!reader.TryReadString(out string name) || !reader.TryReadUInt16(out ushort count))
        {
            AnswerError(option, NBD_REP_ERR_INVALID, "the export name or the number of requests is malformed");
            return null;
        }

        bool nameWanted = false;
        for (int i = 0; i < count; i++)
        {
            if (!reader.TryReadUInt16(out ushort type))
            {
                AnswerError(option, NBD_REP_ERR_INVALID, "fewer information requests than announced");
                return null;
            }

            nameWanted |= type == NBD_INFO_NAME;
        }

        if (!reader.AtEnd)
        {
            AnswerError(option, NBD_REP_ERR_INVALID, "data after the last information request");
            return null;
        }

        if (FindOrRefuse(option, name) is not { } export)
        {
            return null;
        }

        AnswerInfo(option, export, nameWanted);
        Answer(option, NBD_REP_ACK);
        return export;
    }

    // NBD_INFO_EXPORT       0: u16 type  2: u64 size  10: u16 transmission flags
    // NBD_INFO_BLOCK_SIZE   0: u16 type  2: u32 minimum  6: u32 preferred  10: u32 maximum
    // NBD_INFO_NAME and NBD_INFO_DESCRIPTION   0: u16 type  2: text
    private void AnswerInfo(uint option, NbdExport export, bool nameWanted)
    {
        Span<byte> info = stackalloc byte[14];
        BinaryPrimitives.WriteUInt16BigEndian(info, NBD_INFO_EXPORT);
        BinaryPrimitives.WriteInt64BigEndian(info[2..], export.Size);
        BinaryPrimitives.WriteUInt16BigEndian(info[10..], export.TransmissionFlags(_structuredReplies));
        Answer(option, NBD_REP_INFO, info[..12]);

        BinaryPrimitives.WriteUInt16BigEndian(info, NBD_INFO_BLOCK_SIZE);
        BinaryPrimitives.WriteUInt32BigEndian(info[2..], 1);
        BinaryPrimitives.WriteUInt32BigEndian(info[6..], export.PreferredBlockSize);
        BinaryPrimitives.WriteUInt32BigEndian(info[10..], NbdExport.RequestBytesMax);
        Answer(option, NBD_REP_INFO, info);

        if (nameWanted)
        {
            AnswerInfoText(option, NBD_INFO_NAME, export.Name);
        }

        if (export.Description is { } description)
        {
            AnswerInfoText(option, NBD_INFO_DESCRIPTION, description);
        }
    }

    private void AnswerInfoText(uint option, ushort type, string text)
    {
        byte[] content = new byte[2 + Encoding.UTF8.GetByteCount(text)];
        BinaryPrimitives.WriteUInt16BigEndian(content, type);
        Encoding.UTF8.GetBytes(text, content.AsSpan(2));
        Answer(option, NBD_REP_INFO, content);
    }

    private void StructuredReply(ReadOnlySpan<byte> data)
    {
        if (!data.IsEmpty)
        {
            AnswerError(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_INVALID, "this option takes no data");
            return;
        }

        _structuredReplies = true;
        Answer(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
    }

    // 0: u32 length of the name  4: name  u32 number of queries  { u32 length, query } ...
    private void MetaContext(uint option, ReadOnlySpan<byte> data)
    {
        bool set = option == NBD_OPT_SET_META_CONTEXT;
        if (set)
        {
            // Whatever comes of this attempt, the earlier selection is gone.
            _contexts = null;
        }

        if (!_structuredReplies)
        {
            AnswerError(option, NBD_REP_ERR_INVALID, "structured replies must be negotiated first");
            return;
        }

        NbdOptionReader reader = new(data);
        if (!reader.TryReadString(out string name) || !reader.TryReadUInt32(out uint count))
        {
            AnswerError(option, NBD_REP_ERR_INVALID, "the export name or the number of queries is malformed");
            return;
        }

        // Listing without a query asks for everything; selecting without one selects nothing.
        bool selected = !set && count == 0;
        for (uint i = 0; i < count; i++)
        {
            if (!reader.TryReadString(out string query))
            {
                AnswerError(option, NBD_REP_ERR_INVALID, "a query is malformed or missing");
                return;
            }

            selected |= set ? MetaContexts.SetMatches(query) : MetaContexts.ListMatches(query);
        }

        if (!reader.AtEnd)
        {
            AnswerError(option, NBD_REP_ERR_INVALID, "data after the last query");
            return;
        }

        if (FindOrRefuse(option, name) is { } export)
        {
            _contexts = set ? new MetaContexts(export, selected) : _contexts;
            AnswerMetaContexts(option, selected);
        }
    }

    // NBD_REP_META_CONTEXT   0: u32 id  4: name
    private void AnswerMetaContexts(uint option, bool baseAllocation)
    {
        if (baseAllocation)
        {
            byte[] content = new byte[4 + MetaContexts.BaseAllocationName.Length];
            BinaryPrimitives.WriteUInt32BigEndian(content, MetaContexts.BaseAllocationId);
            Encoding.UTF8.GetBytes(MetaContexts.BaseAllocationName, content.AsSpan(4));
            Answer(option, NBD_REP_META_CONTEXT, content);
        }

        Answer(option, NBD_REP_ACK);
    }

    private NbdExport? FindOrRefuse(uint option, string name)
    {
        NbdExport? export = _exports.Find(name);
        if (export is null)
        {
            // The name is not echoed: it is the client's and may be long (RELIABILITY S12).
            AnswerError(option, NBD_REP_ERR_UNKNOWN, "there is no export of that name");
        }

        return export;
    }

    private void Answer(uint option, uint type, ReadOnlySpan<byte> content = default)
    {
        new NbdOptionReply(option, type, (uint)content.Length).Write(_answer.GetSpan(NbdOptionReply.Size));
        _answer.Advance(NbdOptionReply.Size);
        _answer.Write(content);
    }

    private void AnswerError(uint option, uint type, string message)
    {
        // What was gathered before the error is not sent.
        _answer.ResetWrittenCount();
        Answer(option, type, Encoding.UTF8.GetBytes(message));
    }

    private void SendAnswer()
    {
        Send(_answer.WrittenSpan);
        _answer.ResetWrittenCount();
    }

    private void Send(ReadOnlySpan<byte> bytes)
    {
        if (!_transport.Send(bytes))
        {
            throw new NbdDisconnectedException();
        }
    }

    private void ReceiveExactly(Span<byte> buffer)
    {
        while (!buffer.IsEmpty)
        {
            int received = _transport.Receive(buffer);
            if (received == 0)
            {
                throw new NbdDisconnectedException();
            }

            buffer = buffer[received..];
        }
    }
}
