using BlockMount.Exports.Nbd.Wire;
using Xunit;
using static BlockMount.Exports.Nbd.Wire.NbdConstants;

namespace BlockMount.Tests.Exports.Nbd;

/// <summary>The wire structs: what is written is read back, and a parser takes neither a short nor a foreign message.</summary>
public class NbdWireTests
{
    private delegate bool Parser<T>(ReadOnlySpan<byte> wire, out T value);

    [Fact]
    public void RequestHeader_Written_HasTheBytesOfTheSpecification()
    {
        byte[] wire = new byte[NbdRequestHeader.Size];
        new NbdRequestHeader(NBD_CMD_FLAG_FUA, NBD_CMD_WRITE, 0x0102030405060708, 0x1112131415161718, 0x21222324).Write(wire);
        Assert.Equal("256095130001000101020304050607081112131415161718" + "21222324", Convert.ToHexString(wire));
    }

    [Fact]
    public void Structs_RoundTrip_OnlyWholeAndWithTheirMagic()
    {
        NbdRequestHeader request = new(1, 2, 3, ulong.MaxValue, uint.MaxValue);
        Check(NbdRequestHeader.Size, request.Write, NbdRequestHeader.TryRead, request);
        NbdSimpleReply simple = new(NBD_EIO, ulong.MaxValue);
        Check(NbdSimpleReply.Size, simple.Write, NbdSimpleReply.TryRead, simple);
        NbdReplyChunk chunk = new(NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR, 77, 12345);
        Check(NbdReplyChunk.Size, chunk.Write, NbdReplyChunk.TryRead, chunk);
        NbdGreeting greeting = new(3);
        Check(NbdGreeting.Size, greeting.Write, NbdGreeting.TryRead, greeting);
        NbdOptionHeader option = new(7, uint.MaxValue);
        Check(NbdOptionHeader.Size, option.Write, NbdOptionHeader.TryRead, option);
        NbdOptionReply reply = new(7, NBD_REP_ERR_UNSUP, 9);
        Check(NbdOptionReply.Size, reply.Write, NbdOptionReply.TryRead, reply);
    }

    [Fact]
    public void OptionReader_CutAnywhere_FailsWithoutRunningOver()
    {
        byte[] data = NbdTestClient.MetaData("name", "base:allocation", "x");
        for (int length = 0; length < data.Length; length++)
        {
            NbdOptionReader reader = new(data.AsSpan(0, length));
            bool complete = reader.TryReadString(out _) && reader.TryReadUInt32(out _)
                && reader.TryReadString(out _) && reader.TryReadString(out _);
            Assert.False(complete);
        }
    }

    [Fact]
    public void OptionString_NulOrBadUtf8OrTooLong_IsRefused()
    {
        Assert.False(NbdOptionReader.TryDecode("a\0b"u8, out _));
        Assert.False(NbdOptionReader.TryDecode([0xC3, 0x28], out _));
        Assert.False(NbdOptionReader.TryDecode(new byte[StringBytesMax + 1], out _));
        byte[] longest = new byte[StringBytesMax];
        Array.Fill(longest, (byte)'a');
        Assert.True(NbdOptionReader.TryDecode(longest, out string text));
        Assert.Equal(StringBytesMax, text.Length);
    }

    private static void Check<T>(int size, Action<Span<byte>> write, Parser<T> read, T expected)
    {
        byte[] wire = new byte[size];
        write(wire);
        Assert.True(read(wire, out T value));
        Assert.Equal(expected, value);
        for (int length = 0; length < size; length++)
        {
            Assert.False(read(wire.AsSpan(0, length), out _));
        }

        wire[0] ^= 0x80;
        Assert.False(read(wire, out _));
    }
}
