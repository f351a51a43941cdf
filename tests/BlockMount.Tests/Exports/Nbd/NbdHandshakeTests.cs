using System.Buffers.Binary;
using System.Text;
using BlockMount.Exports.Nbd.Wire;
using Xunit;
using static BlockMount.Exports.Nbd.Wire.NbdConstants;

namespace BlockMount.Tests.Exports.Nbd;

/// <summary>Option haggling, answer by answer, and what becomes of clients that break it (RELIABILITY S11-S16).</summary>
public class NbdHandshakeTests
{
    private const ushort FlagsReadWrite = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM
        | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE;

    private const ushort FlagsReadOnly = NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA
        | NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE;

    [Fact]
    public async Task Greeting_AnyClient_OffersFixedNewstyleAndNoZeroes()
    {
        await using NbdFixture fixture = new();
        Assert.Equal(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES, fixture.Connect().Greet().Flags);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(NBD_FLAG_C_NO_ZEROES)]
    [InlineData(NBD_FLAG_C_FIXED_NEWSTYLE | 4)]
    [InlineData(uint.MaxValue)]
    public async Task ClientFlags_NotFixedNewstyleOrUnknown_Disconnects(uint flags)
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Connect();
        client.Greet(flags);
        Assert.True(client.AtEnd());
    }

    [Theory]
    [InlineData(true, 10)]
    [InlineData(false, 134)]
    public async Task ExportName_KnownExport_EntersTransmission(bool noZeroes, int length)
    {
        await using NbdFixture fixture = new(size: (1 << 20) + 100);
        NbdTestClient client = fixture.Connect();
        client.Greet(noZeroes ? NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES : NBD_FLAG_C_FIXED_NEWSTYLE);
        client.Send(NbdTestClient.Option(NBD_OPT_EXPORT_NAME, "disk"u8.ToArray()));
        byte[] answer = client.Receive(length);
        Assert.Equal(1 << 20, BinaryPrimitives.ReadInt64BigEndian(answer));
        Assert.Equal(FlagsReadWrite, BinaryPrimitives.ReadUInt16BigEndian(answer.AsSpan(8)));
        Assert.Equal(fixture.Content[..512], client.Call(NBD_CMD_READ, 0, 512).Data);
    }

    [Theory]
    [InlineData("nothing")]
    [InlineData("disk\0")]
    public async Task ExportName_UnknownExport_Disconnects(string name)
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Connect();
        client.Greet();
        client.Send(NbdTestClient.Option(NBD_OPT_EXPORT_NAME, Encoding.UTF8.GetBytes(name)));
        Assert.True(client.AtEnd());
    }

    [Fact]
    public async Task Abort_Always_IsAcknowledgedAndDisconnects()
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Connect();
        client.Greet();
        Assert.Equal(NBD_REP_ACK, client.Ask(NBD_OPT_ABORT)[^1].Type);
        Assert.True(client.AtEnd());
    }

    [Fact]
    public async Task List_TwoExports_NamesThemInOrderWithDescriptions()
    {
        await using NbdFixture fixture = new(oneExport: false);
        NbdTestClient client = fixture.Connect();
        client.Greet();
        List<OptionAnswer> answers = client.Ask(NBD_OPT_LIST);
        Assert.Equal([NBD_REP_SERVER, NBD_REP_SERVER, NBD_REP_ACK], answers.Select(answer => answer.Type));
        Assert.Equal("\0\0\0\u0004diska disk for tests", Encoding.UTF8.GetString(answers[0].Content));
        Assert.Equal("\0\0\0\u0005other", Encoding.UTF8.GetString(answers[1].Content));
        Assert.Equal(NBD_REP_ERR_INVALID, client.Ask(NBD_OPT_LIST, 1)[^1].Type);
    }

    [Fact]
    public async Task Info_NameAsked_TellsSizeFlagsBlockSizesNameAndDescription()
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Connect();
        client.Greet();
        List<OptionAnswer> answers = client.Ask(NBD_OPT_INFO, NbdTestClient.GoData("disk", NBD_INFO_NAME, 999));
        Dictionary<ushort, byte[]> infos = answers.Where(answer => answer.Type == NBD_REP_INFO)
            .ToDictionary(answer => BinaryPrimitives.ReadUInt16BigEndian(answer.Content), answer => answer.Content[2..]);
        Assert.Equal(4, infos.Count);
        Assert.Equal(1 << 20, BinaryPrimitives.ReadInt64BigEndian(infos[NBD_INFO_EXPORT]));
        Assert.Equal(FlagsReadWrite, BinaryPrimitives.ReadUInt16BigEndian(infos[NBD_INFO_EXPORT].AsSpan(8)));
        Assert.Equal("000000010000100002000000", Convert.ToHexString(infos[NBD_INFO_BLOCK_SIZE]));
        Assert.Equal("disk"u8.ToArray(), infos[NBD_INFO_NAME]);
        Assert.Equal("a disk for tests"u8.ToArray(), infos[NBD_INFO_DESCRIPTION]);
        // Asking is not entering.
        Assert.Equal(NBD_REP_ACK, client.Ask(NBD_OPT_LIST)[^1].Type);
    }

    [Fact]
    public async Task Info_ReadOnlyExportAfterStructuredReply_OffersDfAndNoWrites()
    {
        await using NbdFixture fixture = new(writable: false);
        NbdTestClient client = fixture.Connect();
        client.Greet();
        client.Ask(NBD_OPT_STRUCTURED_REPLY);
        byte[] info = client.Ask(NBD_OPT_INFO, NbdTestClient.GoData("disk"))[0].Content;
        Assert.Equal(FlagsReadOnly | NBD_FLAG_SEND_DF, BinaryPrimitives.ReadUInt16BigEndian(info.AsSpan(10)));
    }

    [Theory]
    [InlineData(true, NBD_REP_ACK)]
    [InlineData(false, NBD_REP_ERR_UNKNOWN)]
    public async Task Go_EmptyName_MeansTheOnlyExport(bool oneExport, uint expected)
    {
        await using NbdFixture fixture = new(oneExport: oneExport);
        NbdTestClient client = fixture.Connect();
        client.Greet();
        Assert.Equal(expected, client.Ask(NBD_OPT_GO, NbdTestClient.GoData(""))[^1].Type);
    }

    [Fact]
    public async Task Go_UnknownExport_IsRefusedAndTheClientMayGoOn()
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Connect();
        client.Greet();
        Assert.Equal(NBD_REP_ERR_UNKNOWN, client.Ask(NBD_OPT_GO, NbdTestClient.GoData("nothing"))[^1].Type);
        Assert.Equal(NBD_REP_ACK, client.Ask(NBD_OPT_GO, NbdTestClient.GoData("disk"))[^1].Type);
        Assert.Equal(fixture.Content[..512], client.Call(NBD_CMD_READ, 0, 512).Data);
    }

    [Theory]
    [InlineData(NBD_OPT_STARTTLS)]
    [InlineData(NBD_OPT_EXTENDED_HEADERS)]
    [InlineData(4)]
    [InlineData(0)]
    [InlineData(12345)]
    public async Task Option_NotOffered_IsUnsupported(uint option)
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Connect();
        client.Greet();
        Assert.Equal(NBD_REP_ERR_UNSUP, client.Ask(option, 1, 2, 3)[^1].Type);
    }

    [Fact]
    public async Task StartTls_MoreOptionsInTheSameSegment_AreAnsweredOnceEachInPlaintext()
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Connect();
        client.Greet();
        client.Send([.. NbdTestClient.Option(NBD_OPT_STARTTLS, []), .. NbdTestClient.Option(NBD_OPT_STRUCTURED_REPLY, [])]);
        Assert.Equal(NBD_REP_ERR_UNSUP, client.ReceiveOptionAnswer().Type);
        Assert.Equal(NBD_REP_ACK, client.ReceiveOptionAnswer().Type);
    }

    [Fact]
    public async Task MetaContext_WithoutStructuredReply_IsInvalid()
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Connect();
        client.Greet();
        Assert.Equal(NBD_REP_ERR_INVALID, client.Ask(NBD_OPT_LIST_META_CONTEXT, NbdTestClient.MetaData("disk"))[^1].Type);
        Assert.Equal(NBD_REP_ERR_INVALID, client.Ask(NBD_OPT_SET_META_CONTEXT, NbdTestClient.MetaData("disk", "base:allocation"))[^1].Type);
    }

    [Theory]
    [InlineData(NBD_OPT_LIST_META_CONTEXT, true)]
    [InlineData(NBD_OPT_LIST_META_CONTEXT, true, "base:")]
    [InlineData(NBD_OPT_LIST_META_CONTEXT, true, "x:y", "base:allocation")]
    [InlineData(NBD_OPT_LIST_META_CONTEXT, false, "base:other")]
    [InlineData(NBD_OPT_LIST_META_CONTEXT, false, "qemu:")]
    [InlineData(NBD_OPT_SET_META_CONTEXT, false)]
    [InlineData(NBD_OPT_SET_META_CONTEXT, false, "base:")]
    [InlineData(NBD_OPT_SET_META_CONTEXT, true, "base:allocation")]
    [InlineData(NBD_OPT_SET_META_CONTEXT, true, "base:allocation", "base:allocation")]
    public async Task MetaContext_Queries_SelectAsTheSpecificationSays(uint option, bool found, params string[] queries)
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Connect();
        client.Greet();
        client.Ask(NBD_OPT_STRUCTURED_REPLY);
        List<OptionAnswer> answers = client.Ask(option, NbdTestClient.MetaData("disk", queries));
        Assert.Equal(found ? 2 : 1, answers.Count);
        Assert.Equal(NBD_REP_ACK, answers[^1].Type);
        if (found)
        {
            Assert.Equal("\0\0\0\0base:allocation", Encoding.UTF8.GetString(answers[0].Content));
        }
    }

    [Fact]
    public async Task SetMetaContext_ThenGoToAnotherExport_DoesNotCount()
    {
        await using NbdFixture fixture = new(oneExport: false);
        NbdTestClient client = fixture.Connect();
        client.Greet();
        client.Ask(NBD_OPT_STRUCTURED_REPLY);
        client.Ask(NBD_OPT_SET_META_CONTEXT, NbdTestClient.MetaData("other", "base:allocation"));
        client.GoStructured("disk");
        Assert.Equal(NBD_EINVAL, client.Call(NBD_CMD_BLOCK_STATUS, 0, 512).Error);
    }

    [Theory]
    [InlineData(NBD_OPT_GO)]
    [InlineData(NBD_OPT_INFO)]
    [InlineData(NBD_OPT_SET_META_CONTEXT)]
    [InlineData(NBD_OPT_LIST_META_CONTEXT)]
    public async Task Option_DataCutAnywhereOrTooLong_IsInvalid(uint option)
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Connect();
        client.Greet();
        client.Ask(NBD_OPT_STRUCTURED_REPLY);
        byte[] data = option is NBD_OPT_GO or NBD_OPT_INFO
            ? NbdTestClient.GoData("disk", NBD_INFO_NAME, NBD_INFO_BLOCK_SIZE)
            : NbdTestClient.MetaData("disk", "base:allocation");
        for (int length = 0; length < data.Length; length++)
        {
            Assert.Equal(NBD_REP_ERR_INVALID, client.Ask(option, data[..length])[^1].Type);
        }

        Assert.Equal(NBD_REP_ERR_INVALID, client.Ask(option, [.. data, 0])[^1].Type);
        Assert.Equal(NBD_REP_ACK, client.Ask(NBD_OPT_GO, NbdTestClient.GoData("disk"))[^1].Type);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(255)]
    [InlineData(257)]
    [InlineData(4095)]
    [InlineData(4096)]
    [InlineData(4097)]
    [InlineData(65529)]
    [InlineData(65530)]
    [InlineData(65531)]
    [InlineData(70000)]
    public async Task Go_NameOfAnyLength_IsRefusedWithAnAnswer(int length)
    {
        await using NbdFixture fixture = new(oneExport: false);
        NbdTestClient client = fixture.Connect();
        client.Greet();
        uint expected = length > 65530 ? NBD_REP_ERR_TOO_BIG : length > StringBytesMax ? NBD_REP_ERR_INVALID : NBD_REP_ERR_UNKNOWN;
        Assert.Equal(expected, client.Ask(NBD_OPT_GO, NbdTestClient.GoData(new string('x', length)))[^1].Type);
        Assert.Equal(NBD_REP_ACK, client.Ask(NBD_OPT_GO, NbdTestClient.GoData("disk"))[^1].Type);
    }

    [Theory]
    [InlineData(NBD_OPT_GO, uint.MaxValue)]
    [InlineData(NBD_OPT_LIST, int.MaxValue)]
    [InlineData(NBD_OPT_EXPORT_NAME, 70000)]
    [InlineData(12345, 0x80000000)]
    public async Task Option_AbsurdLength_DisconnectsAtOnce(uint option, uint length)
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Connect();
        client.Greet();
        byte[] wire = new byte[NbdOptionHeader.Size];
        new NbdOptionHeader(option, length).Write(wire);
        client.Send(wire);
        Assert.True(client.AtEnd());
    }

    [Fact]
    public async Task Handshake_CutAtEveryByte_ServerServesTheNextClient()
    {
        await using NbdFixture fixture = new();
        byte[] all =
        [
            0, 0, 0, 3,
            .. NbdTestClient.Option(NBD_OPT_STRUCTURED_REPLY, []),
            .. NbdTestClient.Option(NBD_OPT_SET_META_CONTEXT, NbdTestClient.MetaData("disk", "base:allocation")),
            .. NbdTestClient.Option(NBD_OPT_GO, NbdTestClient.GoData("disk", NBD_INFO_NAME)),
            .. NbdTestClient.Request(NBD_CMD_READ, 1, 0, 512),
            .. NbdTestClient.Request(NBD_CMD_WRITE, 2, 0, 4, 0, [1, 2, 3, 4]),
        ];
        for (int length = 0; length < all.Length; length++)
        {
            fixture.Connect(out MemoryTransport transport).Send(all[..length]);
            transport.ClientClose();
        }

        await fixture.CloseClientsAsync();
        Assert.Equal(0, fixture.Export.ClientCount);
        Assert.Equal(fixture.Content[..512], fixture.Enter().Call(NBD_CMD_READ, 0, 512).Data);
    }

    [Fact]
    public async Task Options_EveryOrderOfFour_AreAnswered()
    {
        await using NbdFixture fixture = new();
        byte[][] options =
        [
            NbdTestClient.Option(NBD_OPT_STRUCTURED_REPLY, []),
            NbdTestClient.Option(NBD_OPT_SET_META_CONTEXT, NbdTestClient.MetaData("disk", "base:allocation")),
            NbdTestClient.Option(NBD_OPT_INFO, NbdTestClient.GoData("disk")),
            NbdTestClient.Option(NBD_OPT_LIST, []),
        ];
        for (int order = 0; order < 256; order++)
        {
            NbdTestClient client = fixture.Connect(out MemoryTransport transport);
            client.Greet();
            client.Send([.. options[order & 3], .. options[(order >> 2) & 3], .. options[(order >> 4) & 3], .. options[order >> 6]]);
            Assert.Equal(NBD_REP_ACK, client.AskLast(NBD_OPT_ABORT));
            transport.ClientClose();
        }
    }

    [Fact]
    public async Task Handshake_NotStartingWithIhaveopt_Disconnects()
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Connect();
        client.Greet();
        client.Send(new byte[NbdOptionHeader.Size]);
        Assert.True(client.AtEnd());
    }

    [Fact]
    public async Task Handshake_OneByteAtATime_Works()
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Enter(receiveMax: 1);
        Assert.Equal(fixture.Content[..512], client.Call(NBD_CMD_READ, 0, 512).Data);
    }
}
