using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Exports.Nbd;
using BlockMount.Exports.Nbd.Wire;
using Xunit;
using static BlockMount.Exports.Nbd.Wire.NbdConstants;

namespace BlockMount.Tests.Exports.Nbd;

/// <summary>Commands, flags, limits and errors of the transmission phase (FEATURES X4-X7).</summary>
public class NbdTransmissionTests
{
    private const uint MiB = 1 << 20;

    [Theory]
    [InlineData(true, 1, int.MaxValue)]
    [InlineData(true, 4096, int.MaxValue)]
    [InlineData(true, 65536, 1)]
    [InlineData(true, 65537, 1)]
    [InlineData(true, 1000001, 1)]
    [InlineData(false, 4096, 1)]
    [InlineData(false, 65536, int.MaxValue)]
    [InlineData(false, 1000001, 4097)]
    public async Task WriteThenRead_AnyLength_ReturnsWhatWasWritten(bool structured, int length, int receiveMax)
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Enter(structured, receiveMax);
        byte[] data = new byte[length];
        new Random(length).NextBytes(data);
        Assert.Equal(0u, client.Call(NBD_CMD_WRITE, 77, (uint)length, 0, data).Error);
        Assert.Equal(data, client.Call(NBD_CMD_READ, 77, (uint)length).Data);
        Assert.Equal(data, fixture.File.ToArray()[77..(77 + length)]);
        Assert.Equal(fixture.Content[..77], client.Call(NBD_CMD_READ, 0, 77).Data);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Request_CompletingElsewhere_IsAnsweredAll(bool structured)
    {
        await using NbdFixture fixture = new(wrap: file => new DetourFile(file, async (_, _) => await Task.Yield()));
        NbdTestClient client = fixture.Enter(structured);
        const int Count = 200;
        List<byte> wire = [];
        for (uint i = 0; i < Count; i++)
        {
            byte[] payload = new byte[1000];
            Array.Fill(payload, (byte)i);
            wire.AddRange(NbdTestClient.Request(NBD_CMD_WRITE, i, i * 1000, 1000, 0, payload));
        }

        client.Send([.. wire]);
        Assert.Equal(Enumerable.Range(0, Count).Select(i => (ulong)i), Enumerable.Range(0, Count).Select(_ => client.ReceiveAnswer(0, 0).Cookie).Order());
        for (uint i = 0; i < Count; i++)
        {
            Assert.All(client.Call(NBD_CMD_READ, i * 1000, 1000).Data, value => Assert.Equal((byte)i, value));
        }

        byte[] all = fixture.File.ToArray();
        Assert.Equal(all, client.Call(NBD_CMD_READ, 0, MiB).Data);
        client.Send([.. Enumerable.Range(0, Count).SelectMany(i => NbdTestClient.Request(NBD_CMD_READ, (ulong)i, (ulong)i * 4096, 4096))]);
        // Replies come in any order, and with equal lengths the cookie tells which one it is.
        for (int i = 0; i < Count; i++)
        {
            Answer answer = client.ReceiveAnswerByCookie(4096, cookie => cookie * 4096);
            Assert.Equal(all.AsSpan((int)answer.Cookie * 4096, 4096).ToArray(), answer.Data);
        }
    }

    [Fact]
    public async Task Requests_InOneSegment_AreAnsweredInOneSend()
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Connect(out MemoryTransport transport);
        client.Enter("disk");
        int before = transport.SendCount;
        client.Send([.. Enumerable.Range(0, 16).SelectMany(i => NbdTestClient.Request(NBD_CMD_READ, (ulong)i, (ulong)i * 4096, 4096))]);
        for (ulong i = 0; i < 16; i++)
        {
            Assert.Equal(fixture.Content.AsSpan((int)i * 4096, 4096).ToArray(), client.ReceiveAnswer(4096, i * 4096).Data);
        }

        Assert.Equal(1, transport.SendCount - before);
    }

    [Fact]
    public async Task Read_LargeWithoutDf_ComesInChunksAndWithDfInOne()
    {
        await using NbdFixture fixture = new(4 * MiB);
        NbdTestClient client = fixture.Enter();
        Answer chunks = client.Call(NBD_CMD_READ, 100, 3 * MiB);
        Assert.Equal(fixture.Content[100..(int)(100 + 3 * MiB)], chunks.Data);
        Assert.True(chunks.Chunks.Count > 1);
        Answer whole = client.Call(NBD_CMD_READ, 100, 3 * MiB, NBD_CMD_FLAG_DF);
        Assert.Equal(fixture.Content[100..(int)(100 + 3 * MiB)], whole.Data);
        Assert.Single(whole.Chunks);
    }

    [Fact]
    public async Task EmptyRequests_EveryCommand_SucceedExceptBlockStatus()
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Enter();
        foreach (ushort type in new[] { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES })
        {
            Assert.Equal(0u, client.Call(type, MiB, 0, 0, []).Error);
        }

        Assert.Equal(NBD_EINVAL, client.Call(NBD_CMD_BLOCK_STATUS, 0, 0).Error);
    }

    [Fact]
    public async Task WriteZeroesTrimFlushCacheFua_InRange_Work()
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Enter();
        Assert.Equal(0u, client.Call(NBD_CMD_WRITE_ZEROES, 1000, 5000, NBD_CMD_FLAG_FUA).Error);
        Assert.Equal(0u, client.Call(NBD_CMD_WRITE_ZEROES, 10000, 5000, NBD_CMD_FLAG_NO_HOLE).Error);
        Assert.Equal(0u, client.Call(NBD_CMD_TRIM, 65536, 65536, NBD_CMD_FLAG_FUA).Error);
        Assert.Equal(0u, client.Call(NBD_CMD_FLUSH, 0, 0).Error);
        Assert.Equal(0u, client.Call(NBD_CMD_CACHE, 0, MiB).Error);
        byte[] expected = (byte[])fixture.Content.Clone();
        expected.AsSpan(1000, 5000).Clear();
        expected.AsSpan(10000, 5000).Clear();
        expected.AsSpan(65536, 65536).Clear();
        Assert.Equal(expected, client.Call(NBD_CMD_READ, 0, MiB).Data);
    }

    [Theory]
    [InlineData(NBD_CMD_READ, NBD_EINVAL)]
    [InlineData(NBD_CMD_WRITE, NBD_ENOSPC)]
    [InlineData(NBD_CMD_TRIM, NBD_EINVAL)]
    [InlineData(NBD_CMD_CACHE, NBD_EINVAL)]
    [InlineData(NBD_CMD_WRITE_ZEROES, NBD_ENOSPC)]
    [InlineData(NBD_CMD_BLOCK_STATUS, NBD_EINVAL)]
    public async Task Request_PastTheEnd_IsRefusedAndTheConnectionGoesOn(ushort type, uint expected)
    {
        await using NbdFixture fixture = new(MiB + 511);
        foreach (bool structured in new[] { true, false })
        {
            NbdTestClient client = fixture.Enter(structured);
            foreach (ulong offset in new ulong[] { MiB - 511, MiB, MiB + 1, long.MaxValue, ulong.MaxValue })
            {
                Answer answer = client.Call(type, offset, 512, 0, type == NBD_CMD_WRITE ? new byte[512] : null);
                Assert.Equal(type == NBD_CMD_BLOCK_STATUS && !structured ? NBD_EINVAL : expected, answer.Error);
            }

            Assert.Equal(fixture.Content[..512], client.Call(NBD_CMD_READ, 0, 512).Data);
        }
    }

    [Theory]
    [InlineData(NBD_CMD_WRITE)]
    [InlineData(NBD_CMD_TRIM)]
    [InlineData(NBD_CMD_WRITE_ZEROES)]
    public async Task Change_ReadOnlyExport_IsEperm(ushort type)
    {
        await using NbdFixture fixture = new(writable: false);
        NbdTestClient client = fixture.Enter(receiveMax: 100);
        Answer answer = client.Call(type, 0, 100_000, 0, type == NBD_CMD_WRITE ? new byte[100_000] : null);
        Assert.Equal(NBD_EPERM, answer.Error);
        Assert.EndsWith("the export is read-only", System.Text.Encoding.UTF8.GetString(answer.Chunks[0].Content));
        Assert.Equal(0u, client.Call(NBD_CMD_FLUSH, 0, 0).Error);
        Assert.Equal(fixture.Content, fixture.File.ToArray());
    }

    [Theory]
    [InlineData(NBD_CMD_READ, NBD_CMD_FLAG_NO_HOLE, NBD_EINVAL)]
    [InlineData(NBD_CMD_WRITE, NBD_CMD_FLAG_DF, NBD_EINVAL)]
    [InlineData(NBD_CMD_FLUSH, 0x8000, NBD_EINVAL)]
    [InlineData(NBD_CMD_TRIM, NBD_CMD_FLAG_REQ_ONE, NBD_EINVAL)]
    [InlineData(NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, NBD_ENOTSUP)]
    [InlineData(NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_DF, NBD_EINVAL)]
    [InlineData(8, 0, NBD_EINVAL)]
    [InlineData(0xffff, 0xffff, NBD_EINVAL)]
    public async Task Request_UnknownCommandOrFlag_IsRefused(ushort type, ushort flags, uint expected)
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Enter();
        Assert.Equal(expected, client.Call(type, 0, 512, flags, type == NBD_CMD_WRITE ? new byte[512] : null).Error);
        Assert.Equal(fixture.Content, client.Call(NBD_CMD_READ, 0, MiB).Data);
    }

    [Fact]
    public async Task Read_DfWithoutStructuredReplies_IsRefused()
    {
        await using NbdFixture fixture = new();
        Assert.Equal(NBD_EINVAL, fixture.Enter(structured: false).Call(NBD_CMD_READ, 0, 512, NBD_CMD_FLAG_DF).Error);
    }

    [Fact]
    public async Task Payload_MoreThan32MiB_IsRefusedAndSkipped()
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Enter();
        Assert.Equal(NBD_EINVAL, client.Call(NBD_CMD_READ, 0, NbdExport.RequestBytesMax + 1).Error);
        Assert.Equal(NBD_EINVAL, client.Call(NBD_CMD_WRITE, 0, NbdExport.RequestBytesMax + 1, 0, new byte[NbdExport.RequestBytesMax + 1]).Error);
        Assert.Equal(fixture.Content[..512], client.Call(NBD_CMD_READ, 0, 512).Data);
        client.Send(NbdTestClient.Request(NBD_CMD_WRITE, 1, 0, uint.MaxValue));
        Assert.True(client.AtEnd());
    }

    [Fact]
    public async Task Request_BadMagic_Disconnects()
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Enter();
        client.Send(new byte[NbdRequestHeader.Size]);
        Assert.True(client.AtEnd());
        Assert.Equal(fixture.Content[..512], fixture.Enter().Call(NBD_CMD_READ, 0, 512).Data);
    }

    [Fact]
    public async Task Disconnect_AfterRequests_AnswersThemFirst()
    {
        await using NbdFixture fixture = new(wrap: file => new DetourFile(file, async (_, _) => await Task.Delay(20)));
        NbdTestClient client = fixture.Enter();
        client.Send([.. NbdTestClient.Request(NBD_CMD_READ, 5, 0, 512), .. NbdTestClient.Request(NBD_CMD_DISC, 6, 0, 0)]);
        Assert.Equal(fixture.Content[..512], client.ReceiveAnswer(512, 0).Data);
        Assert.True(client.AtEnd());
    }

    [Fact]
    public async Task BlockStatus_FileWithHoles_MergesNeighboursAndHonoursReqOne()
    {
        await using NbdFixture fixture = new(wrap: file => new HoleyFile(file));
        NbdTestClient client = fixture.Enter();
        Assert.Equal([(65536u, 0u), (65536u, 3u), (65536u, 0u), (34464u, 3u)], Extents(client.Call(NBD_CMD_BLOCK_STATUS, 0, 231072)));
        Assert.Equal([(65436u, 0u)], Extents(client.Call(NBD_CMD_BLOCK_STATUS, 100, 200_000, NBD_CMD_FLAG_REQ_ONE)));
        Assert.Equal([(1u, 3u)], Extents(client.Call(NBD_CMD_BLOCK_STATUS, 65536, 1)));
    }

    [Fact]
    public async Task BlockStatus_VeryManyExtents_IsCutAtTheLimit()
    {
        await using NbdFixture fixture = new(4 * MiB, wrap: file => new HoleyFile(file, pieceBytes: 8));
        List<(uint Length, uint Flags)> extents = Extents(fixture.Enter().Call(NBD_CMD_BLOCK_STATUS, 0, 4 * MiB));
        Assert.Equal(NbdRequest.ExtentsMax, extents.Count);
        Assert.All(extents, extent => Assert.Equal(16u, extent.Length));
    }

    [Fact]
    public async Task BlockStatus_NoContextNegotiated_IsEinval()
    {
        await using NbdFixture fixture = new();
        NbdTestClient client = fixture.Connect();
        client.Enter("disk", structured: true, metaContext: false);
        Assert.Equal(NBD_EINVAL, client.Call(NBD_CMD_BLOCK_STATUS, 0, 512).Error);
    }

    [Theory]
    [InlineData(Errno.EPERM, NBD_EPERM)]
    [InlineData(Errno.EROFS, NBD_EPERM)]
    [InlineData(Errno.EIO, NBD_EIO)]
    [InlineData(Errno.ENOMEM, NBD_ENOMEM)]
    [InlineData(Errno.ENOSPC, NBD_ENOSPC)]
    [InlineData(Errno.EFBIG, NBD_ENOSPC)]
    [InlineData(Errno.EDQUOT, NBD_ENOSPC)]
    [InlineData(Errno.EOVERFLOW, NBD_EOVERFLOW)]
    [InlineData(Errno.EOPNOTSUPP, NBD_ENOTSUP)]
    [InlineData(Errno.ESHUTDOWN, NBD_ESHUTDOWN)]
    [InlineData(Errno.EBADF, NBD_EINVAL)]
    public async Task Request_DeviceFails_AnswersTheErrorWithoutPathsAndGoesOn(Errno errno, uint expected)
    {
        bool failing = true;
        foreach (bool later in new[] { false, true })
        {
            await using NbdFixture fixture = new(wrap: file => new DetourFile(file, async (operation, _) =>
            {
                if (later)
                {
                    await Task.Yield();
                }

                if (failing && operation != "flush")
                {
                    throw new BlockIOException(errno, "secret.qcow2");
                }
            }));
            failing = true;
            NbdTestClient client = fixture.Enter();
            foreach (uint length in new uint[] { 512, MiB })
            {
                foreach (ushort type in new[] { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES, NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_BLOCK_STATUS })
                {
                    Answer answer = client.Call(type, 0, length, 0, type == NBD_CMD_WRITE ? new byte[length] : null);
                    Assert.Equal(expected, answer.Error);
                    Assert.DoesNotContain("secret", System.Text.Encoding.UTF8.GetString(answer.Chunks[0].Content));
                }
            }

            failing = false;
            Assert.Equal(fixture.Content[..512], client.Call(NBD_CMD_READ, 0, 512).Data);
        }
    }

    [Fact]
    public async Task Read_FailingInTheMiddle_EndsWithAnErrorChunk()
    {
        await using NbdFixture fixture = new(wrap: file => new DetourFile(file, (_, offset) =>
            offset > 300_000 ? Task.FromException(new BlockIOException(Errno.EIO, "bad sector")) : Task.CompletedTask));
        Answer answer = fixture.Enter().Call(NBD_CMD_READ, 0, MiB);
        Assert.Equal(NBD_EIO, answer.Error);
        Assert.True(answer.Chunks.Count > 1);
        Assert.Equal(NBD_REPLY_TYPE_ERROR, answer.Chunks[^1].Head.Type);
    }

    [Fact]
    public async Task Client_GoneWithRequestsInFlight_ConnectionEndsAfterThem()
    {
        TaskCompletionSource hold = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using NbdFixture fixture = new(wrap: file => new DetourFile(file, (_, _) => hold.Task));
        NbdTestClient client = fixture.Connect(out MemoryTransport transport);
        client.Enter("disk");
        for (ulong i = 0; i < NbdTransmission.InFlightMax + 5; i++)
        {
            client.Send(NbdTestClient.Request(NBD_CMD_READ, i, 0, 4096));
        }

        transport.Abort();
        await Task.Delay(50);
        Assert.Equal(1, fixture.Export.ClientCount);
        hold.SetResult();
        await fixture.CloseClientsAsync();
        Assert.Equal(0, fixture.Export.ClientCount);
    }

    [Fact]
    public async Task ExportDisposal_ClientConnected_FinishesItsRequestAndDisconnects()
    {
        TaskCompletionSource entered = new(TaskCreationOptions.RunContinuationsAsynchronously);
        TaskCompletionSource hold = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using NbdFixture fixture = new(wrap: file => new DetourFile(file, async (operation, _) =>
        {
            if (operation == "write")
            {
                entered.TrySetResult();
                await hold.Task;
            }
        }));
        NbdTestClient client = fixture.Enter();
        client.Send(NbdTestClient.Request(NBD_CMD_WRITE, 9, 0, 4, 0, [1, 2, 3, 4]));
        await entered.Task.WaitAsync(TimeSpan.FromSeconds(10));
        ValueTask disposal = fixture.Export.DisposeAsync();
        Assert.False(fixture.Export.Completion.IsCompleted);
        hold.SetResult();
        await disposal;
        Assert.True(fixture.Export.Completion.IsCompleted);
        Assert.Equal(0u, client.ReceiveAnswer(0, 0).Error);
        Assert.True(client.AtEnd());
        NbdTestClient late = fixture.Connect();
        late.Greet();
        Assert.Equal(NBD_REP_ERR_UNKNOWN, late.Ask(NBD_OPT_GO, NbdTestClient.GoData("disk"))[^1].Type);
    }

    [Fact]
    public async Task Transmission_RandomBytes_NeverHangsOrBreaksTheNextClient()
    {
        await using NbdFixture fixture = new();
        Random random = new(7);
        for (int round = 0; round < 300; round++)
        {
            NbdTestClient client = fixture.Connect(out MemoryTransport transport, receiveMax: random.Next(1, 100));
            client.Enter("disk", structured: random.Next(2) == 0, metaContext: random.Next(2) == 0);
            List<byte> wire = [];
            for (int i = random.Next(1, 10); i > 0; i--)
            {
                byte[] request = NbdTestClient.Request(
                    (ushort)random.Next(0, 10), (ulong)i, (ulong)random.NextInt64(-5, 1 << 21), (uint)random.Next(0, 300_000), (ushort)random.Next(0, 64));
                request[random.Next(4, request.Length)] ^= (byte)random.Next(256);
                wire.AddRange(request);
                wire.AddRange(new byte[random.Next(0, 2000)]);
            }

            client.Send([.. wire]);
            transport.ClientClose();
        }

        await fixture.CloseClientsAsync();
        Assert.Equal(512, fixture.Enter().Call(NBD_CMD_READ, 0, 512).Data.Length);
    }

    private static List<(uint Length, uint Flags)> Extents(Answer answer)
    {
        Assert.Equal(0u, answer.Error);
        (NbdReplyChunk head, byte[] content) = Assert.Single(answer.Chunks);
        Assert.Equal(NBD_REPLY_TYPE_BLOCK_STATUS, head.Type);
        List<(uint, uint)> extents = [];
        for (int position = 4; position < content.Length; position += NbdReplyChunk.ExtentSize)
        {
            extents.Add((BinaryPrimitives.ReadUInt32BigEndian(content.AsSpan(position)), BinaryPrimitives.ReadUInt32BigEndian(content.AsSpan(position + 4))));
        }

        return extents;
    }
}
