using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Block.Nodes;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Faults;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2;

/// <summary>No place for a compressed stream: beyond what a descriptor can name (EFBIG), and no space left in the file system (ENOSPC).</summary>
public sealed class CompressedSpaceTests
{
    private const int SmallCluster = 512;
    private const int StreamCount = 80;

    // Two-bit refcounts of clusters of 2 MiB: a block describes 16 TiB, and descriptors reach to 512 TiB.
    private const int Large = 2 << 20;
    private const int RefcountBits = 2;
    private const long ClustersPerBlock = Large * 8L / RefcountBits;
    private const int BlocksInReach = 32;

    private static readonly long s_reach = L2Entry.CompressedOffsetEnd(21);

    [Fact]
    public void Reach_IsWhatTheBlocksDescribe() => Assert.Equal(BlocksInReach * ClustersPerBlock * Large, s_reach);

    // With the next cluster described the stream would run on into it; without, a refcount block comes first and the stream would begin behind that.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task StreamBeyondReach_IsEfbigAndTakesNothing(bool nextClusterIsDescribed)
    {
        SparseMemoryFile file = await NearlyFullAsync(nextClusterIsDescribed);
        byte[] first = HalfNoise(seed: 1);
        byte[] plain = HalfNoise(seed: 3);
        byte[] small = Text(Large, seed: 4);
        await using (FormatNode node = await OpenAsync(file))
        {
            await node.WriteCompressedAsync(Large, first);
            for (int i = 0; i < 3; i++)
            {
                Assert.Equal(Errno.EFBIG, (await ThrowsAsync(node, 2 * Large, HalfNoise(seed: 2))).Errno);
            }

            // What fits into the open cluster still goes there, and data that is not compressed may lie further out.
            await node.WriteCompressedAsync(3 * Large, small);
            await node.WriteAsync(4 * Large, plain);
            await node.FlushAsync();
        }

        SparseMemoryFile after = file.Reopen();
        L2Entry[] entries = await EntriesAsync(after, 5);
        long end = s_reach - Large;
        Assert.Equal(end, entries[1].CompressedExtent(21).HostOffset);
        Assert.Equal(new L2Entry(0), entries[2]);
        Assert.InRange(entries[3].CompressedExtent(21).HostOffset, end + 1, s_reach - 1);
        // The place that was refused is free again: it is the next that is taken.
        Assert.Equal(s_reach + (nextClusterIsDescribed ? 0 : Large), entries[4].HostOffset);
        Assert.Equal(2, await RefcountAsync(after, end));
        Assert.Equal(1, await RefcountAsync(after, entries[4].HostOffset));
        Assert.Equal(0, await RefcountAsync(after, entries[4].HostOffset + Large));
        await using FormatNode again = await OpenAsync(after);
        await ReadsAsync(again, Large, first);
        await ReadsAsync(again, 2 * Large, new byte[Large]);
        await ReadsAsync(again, 3 * Large, small);
        await ReadsAsync(again, 4 * Large, plain);
    }

    // At every call: the write says so, what was there stays, and once there is space the same write succeeds and nothing has leaked.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task NoSpaceLeft_AtEveryCall_SaysSoAndLosesNothing(bool shortWrites)
    {
        int failures = 0;
        byte[] prepared = await NearEndOfABlockAsync();
        for (int call = 1; ; call++)
        {
            MemoryFile content = new("a", readOnly: false, prepared);
            FaultyFile file = new(content.Reopen());
            FormatNode node = new("node0", "a", await Qcow2Driver.OpenAsync(file, new Qcow2OpenOptions { CacheBytes = 1 }), backing: null);
            file.SetPlan(new FaultPlan
            {
                Calls = StorageCalls.Write | StorageCalls.WriteZeroes | StorageCalls.Resize,
                FailFrom = call,
                Forever = true,
                Errno = Errno.ENOSPC,
                ShortTransfer = shortWrites,
            });
            int written = await WriteUntilFullAsync(node);
            bool full = written < StreamCount;
            Assert.Equal(full, file.Faults > 0);
            file.SetPlan(null);
            await AssertStreamsAsync(node, written);
            for (int i = written; i < StreamCount; i++)
            {
                await node.WriteCompressedAsync(i * SmallCluster, Text(SmallCluster, seed: 100 + i));
            }

            await AssertStreamsAsync(node, StreamCount);
            await node.DisposeAsync();
            CheckReport report = await ConsistencyCheck.RunAsync(content.Reopen(readOnly: true));
            Assert.True(report.IsClean, $"call {call}: {report}");
            if (!full)
            {
                break;
            }

            failures++;
        }

        Assert.True(failures > StreamCount, $"only {failures} calls could fail: refcount blocks and tables were not among them");
    }

    private static async Task<int> WriteUntilFullAsync(FormatNode node)
    {
        for (int i = 0; i < StreamCount; i++)
        {
            try
            {
                await node.WriteCompressedAsync(i * SmallCluster, Text(SmallCluster, seed: 100 + i));
            }
            catch (BlockIOException error)
            {
                Assert.Equal(Errno.ENOSPC, error.Errno);
                return i;
            }
        }

        return StreamCount;
    }

    // The first ones are new, the others are what the image was prepared with.
    private static async Task AssertStreamsAsync(FormatNode node, int written)
    {
        for (int i = 0; i < StreamCount; i++)
        {
            byte[] expected = i < written ? Text(SmallCluster, seed: 100 + i) : i < StreamCount / 2 ? Text(SmallCluster, seed: i) : new byte[SmallCluster];
            byte[] read = new byte[SmallCluster];
            await node.ReadAsync(i * SmallCluster, read);
            Assert.Equal(expected, read);
        }
    }

    // Half of the streams are there already; other data fills the first refcount block (256 clusters) nearly to its end.
    private static async Task<byte[]> NearEndOfABlockAsync()
    {
        MemoryFile file = new();
        await Qcow2Create.CreateAsync(file, new Qcow2CreateOptions { Size = 1 << 20, ClusterSize = SmallCluster });
        await using (FormatNode node = new("node0", "a", await Qcow2Driver.OpenAsync(file.Reopen(), new Qcow2OpenOptions()), backing: null))
        {
            for (int i = 0; i < StreamCount / 2; i++)
            {
                await node.WriteCompressedAsync(i * SmallCluster, Text(SmallCluster, seed: i));
            }

            for (int i = 256; await UsedAsync(node, file) < 250; i++)
            {
                await node.WriteAsync(i * SmallCluster, Text(SmallCluster, seed: i));
            }
        }

        return file.ToArray();
    }

    private static async Task<long> UsedAsync(FormatNode node, MemoryFile file)
    {
        await node.FlushAsync();
        return file.Length / SmallCluster;
    }

    // Every cluster that a descriptor can name is in use but the last one.
    private static async Task<SparseMemoryFile> NearlyFullAsync(bool nextClusterIsDescribed)
    {
        MemoryFile made = new();
        await Qcow2Create.CreateAsync(made, new Qcow2CreateOptions { Size = 8L * Large, ClusterSize = Large, RefcountBits = RefcountBits });
        await using (FormatNode node = new("node0", "a", await Qcow2Driver.OpenAsync(made.Reopen(), new Qcow2OpenOptions()), backing: null))
        {
            // The L2 table that all of the test's clusters have.
            await node.WriteAsync(0, Text(Large, seed: 9));
        }

        SparseMemoryFile file = new(made.Content);
        LiveImageSurgeon surgeon = new(made);
        byte[] block = new byte[Large];
        block.AsSpan().Fill(0b01010101);
        file.Put(surgeon.RefcountBlock(), block);
        for (int i = 1; i < BlocksInReach + (nextClusterIsDescribed ? 1 : 0); i++)
        {
            if (i == BlocksInReach - 1)
            {
                block[^1] &= 0b00111111;
            }
            else if (i == BlocksInReach)
            {
                block.AsSpan().Clear();
            }

            long place = made.Length + (-made.Length & (Large - 1)) + (i * (long)Large);
            file.Put(place, block);
            file.Put(surgeon.RefcountTable + (i * 8), Bytes(place));
        }

        return file;
    }

    private static byte[] Bytes(long value)
    {
        byte[] bytes = new byte[8];
        BinaryPrimitives.WriteInt64BigEndian(bytes, value);
        return bytes;
    }

    private static async Task<FormatNode> OpenAsync(SparseMemoryFile file) =>
        new("node0", file.Name, await Qcow2Driver.OpenAsync(file, new Qcow2OpenOptions()), backing: null);

    private static async Task<BlockIOException> ThrowsAsync(FormatNode node, long offset, byte[] content) =>
        await Assert.ThrowsAsync<BlockIOException>(async () => await node.WriteCompressedAsync(offset, content));

    private static async Task ReadsAsync(FormatNode node, long offset, byte[] expected)
    {
        byte[] read = new byte[expected.Length];
        await node.ReadAsync(offset, read);
        Assert.True(read.AsSpan().SequenceEqual(expected));
    }

    private static async Task<L2Entry[]> EntriesAsync(SparseMemoryFile file, int count)
    {
        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file);
        byte[] table = new byte[count * 8];
        await file.ReadAsync(header.L1TableOffset, table.AsMemory(0, 8));
        await file.ReadAsync(new L1Entry(BinaryPrimitives.ReadUInt64BigEndian(table)).TableOffset, table);
        return [.. Enumerable.Range(0, count).Select(i => new L2Entry(BinaryPrimitives.ReadUInt64BigEndian(table.AsSpan(i * 8))))];
    }

    private static async Task<int> RefcountAsync(SparseMemoryFile file, long hostOffset)
    {
        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file);
        long cluster = hostOffset / Large;
        byte[] bytes = new byte[8];
        await file.ReadAsync(header.RefcountTableOffset + (cluster / ClustersPerBlock * 8), bytes);
        long inBlock = cluster % ClustersPerBlock;
        await file.ReadAsync(BinaryPrimitives.ReadInt64BigEndian(bytes) + (inBlock / 4), bytes.AsMemory(0, 1));
        return (bytes[0] >> (int)(inBlock % 4 * RefcountBits)) & 3;
    }

    private static byte[] Text(int length, int seed)
    {
        byte[] text = new byte[length];
        new Random(seed).NextBytes(text);
        foreach (ref byte b in text.AsSpan())
        {
            b = (byte)(0x61 + (b & 3));
        }

        return text;
    }

    // Compresses to more than half of a cluster.
    private static byte[] HalfNoise(int seed)
    {
        byte[] content = Text(Large, seed);
        new Random(seed).NextBytes(content.AsSpan(0, Large / 2));
        return content;
    }
}
