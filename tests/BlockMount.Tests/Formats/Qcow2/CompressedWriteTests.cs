using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Formats.Raw;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Crash;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2;

/// <summary>Clusters that this program compresses: how they lie in the file, and that QEMU reads them.</summary>
public sealed class CompressedWriteTests
{
    private const int Cluster = 4096;

    public static TheoryData<int, Qcow2Compression, int> Shapes()
    {
        TheoryData<int, Qcow2Compression, int> data = [];
        for (int bits = 9; bits <= 21; bits++)
        {
            data.Add(bits, Qcow2Compression.Zlib, 3);
            data.Add(bits, Qcow2Compression.Zstd, 3);
        }

        data.Add(9, Qcow2Compression.Zlib, 2);
        data.Add(16, Qcow2Compression.Zlib, 2);
        return data;
    }

    [RequiresTheory(Needs.Zstd, "qemu-img")]
    [MemberData(nameof(Shapes))]
    public async Task CompressedDisk_AnyClusterSize_QemuReadsTheSameAndFindsNothing(int clusterBits, Qcow2Compression compression, int version)
    {
        using ScratchFolder folder = new();
        int cluster = 1 << clusterBits;
        // Fewer of the large ones; the last one is short.
        byte[] content = Content(((clusterBits > 18 ? 6 : 40) * cluster) + 512, cluster, new Random(clusterBits));
        MemoryFile file = new();
        await Qcow2Create.CreateAsync(file, new Qcow2CreateOptions { Size = content.Length, ClusterSize = cluster, Compression = compression, Version = version });
        await using (FormatNode node = await OpenAsync(file.Reopen()))
        {
            await node.WriteCompressedAsync(0, content);
            byte[] read = new byte[content.Length];
            await node.ReadAsync(0, read);
            Assert.True(read.AsSpan().SequenceEqual(content));
        }

        CheckReport report = await ConsistencyCheck.RunAsync(file);
        Assert.True(report.IsClean, report.ToString());
        await QemuImg.SaveAsync(folder["a"], file.ToArray());
        QemuImg.Verdict verdict = await QemuImg.CheckAsync(folder["a"]);
        Assert.True(verdict.ExitCode == 0, verdict.Text);
        Assert.Contains("\"compressed-clusters\"", verdict.Text, StringComparison.Ordinal);
        byte[] seen = await QemuImg.ReadGuestAsync(folder["a"], folder["raw"]);
        Assert.True(seen.AsSpan().SequenceEqual(content));
    }

    [Fact]
    public async Task Streams_ArePackedBackToBackAndCountedInEachCluster()
    {
        MemoryFile file = await NewImageAsync(clusters: 64);
        await using (FormatNode node = await OpenAsync(file.Reopen()))
        {
            for (int i = 0; i < 64; i++)
            {
                await node.WriteCompressedAsync(i * Cluster, Text(Cluster, seed: i));
            }
        }

        List<(long Offset, int Length)> streams = [.. (await L2EntriesAsync(file, 64)).Select(entry => entry.CompressedExtent(12))];
        Assert.All(streams, stream => Assert.True(stream.Length < Cluster / 2));
        Assert.Contains(streams, stream => stream.Offset / Cluster != (stream.Offset + stream.Length - 1) / Cluster);
        for (int i = 1; i < streams.Count; i++)
        {
            // The next stream begins in the last sector of the one before, or behind it.
            Assert.InRange(streams[i].Offset - streams[i - 1].Offset - streams[i - 1].Length, -512, 0);
        }

        CheckReport report = await ConsistencyCheck.RunAsync(file);
        Assert.True(report.IsClean, report.ToString());
        Assert.True(file.Length < 64 * Cluster / 2);
    }

    [Fact]
    public async Task ClusterOfStreams_PartlyFreed_KeepsTheOthersAndIsFreedWithTheLast()
    {
        MemoryFile file = await NewImageAsync(clusters: 8);
        byte[] kept = Text(Cluster, seed: 2);
        await using (FormatNode node = await OpenAsync(file.Reopen()))
        {
            await node.WriteCompressedAsync(0, Text(Cluster, seed: 1));
            await node.WriteCompressedAsync(Cluster, kept);
            await node.FlushAsync();
            await node.DiscardAsync(0, Cluster);
            await node.FlushAsync();
            await node.FlushAsync();
            byte[] read = new byte[Cluster];
            await node.ReadAsync(Cluster, read);
            Assert.Equal(kept, read);
            // The cluster is still open: the third stream goes there, too.
            await node.WriteCompressedAsync(2 * Cluster, Text(Cluster, seed: 3));
        }

        L2Entry[] entries = await L2EntriesAsync(file, 3);
        Assert.Equal(entries[1].CompressedExtent(12).HostOffset / Cluster, entries[2].CompressedExtent(12).HostOffset / Cluster);
        Assert.True((await ConsistencyCheck.RunAsync(file)).IsClean);
        long freed = entries[1].CompressedExtent(12).HostOffset / Cluster;
        await using (FormatNode node = await OpenAsync(file.Reopen()))
        {
            await node.DiscardAsync(0, 8 * Cluster);
            await node.FlushAsync();
            await node.FlushAsync();
            await node.WriteAsync(0, Text(Cluster, seed: 4));
        }

        Assert.Equal(freed, (await L2EntriesAsync(file, 1))[0].HostOffset / Cluster);
        Assert.True((await ConsistencyCheck.RunAsync(file)).IsClean);
    }

    // The open cluster becomes free and is handed out for something else: no stream may be put behind the old ones.
    [Fact]
    public async Task OpenCluster_FreedWhileOpen_IsOpenNoLonger()
    {
        MemoryFile file = await NewImageAsync(clusters: 8);
        byte[] plain = Text(Cluster, seed: 5);
        await using FormatNode node = await OpenAsync(file.Reopen());
        await node.WriteCompressedAsync(0, Text(Cluster, seed: 1));
        await node.DiscardAsync(0, Cluster);
        await node.FlushAsync();
        await node.FlushAsync();
        await node.WriteAsync(Cluster, plain);
        await node.WriteCompressedAsync(2 * Cluster, Text(Cluster, seed: 2));
        byte[] read = new byte[Cluster];
        await node.ReadAsync(Cluster, read);
        Assert.Equal(plain, read);
        await node.FlushAsync();
        CheckReport report = await ConsistencyCheck.RunAsync(file.Reopen(readOnly: true));
        Assert.True(report.IsClean, report.ToString());
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task NarrowRefcounts_NeverOverflow(int refcountBits)
    {
        MemoryFile file = await NewImageAsync(clusters: 32, refcountBits);
        await using (FormatNode node = await OpenAsync(file.Reopen()))
        {
            for (int i = 0; i < 32; i++)
            {
                await node.WriteCompressedAsync(i * Cluster, Text(Cluster, seed: i));
            }
        }

        CheckReport report = await ConsistencyCheck.RunAsync(file);
        Assert.True(report.IsClean, report.ToString());
        var perCluster = (await L2EntriesAsync(file, 32)).GroupBy(entry => entry.CompressedExtent(12).HostOffset / Cluster);
        Assert.Equal((1 << refcountBits) - 1, perCluster.Max(group => group.Count()));
    }

    // Matches at a distance of 8 KiB are out of a 4 KiB window's sight, which is all that a reader of type 0 must have.
    [Fact]
    public async Task ZlibStreams_LookBackFourKibibytesAtMost()
    {
        MemoryFile file = new();
        await Qcow2Create.CreateAsync(file, new Qcow2CreateOptions { Size = 1 << 20 });
        byte[] near = Repeated(3000);
        byte[] far = Repeated(8192);
        await using (FormatNode node = await OpenAsync(file.Reopen()))
        {
            await node.WriteCompressedAsync(0, near);
            await node.WriteCompressedAsync(65536, far);
            byte[] read = new byte[131072];
            await node.ReadAsync(0, read);
            Assert.True(read.AsSpan().SequenceEqual([.. near, .. far]));
        }

        L2Entry[] entries = await L2EntriesAsync(file, 2);
        Assert.Equal([ClusterKind.Compressed, ClusterKind.Normal], entries.Select(entry => entry.Kind(3)));
    }

    // A reader that still held the old mapping put the old content into the cache after the entry was gone.
    [Fact]
    public async Task PlaceOfAnOldStream_UsedForAnotherOne_IsNotReadFromTheCache()
    {
        MemoryFile file = await NewImageAsync(clusters: 8);
        Qcow2Driver driver = await Qcow2Driver.OpenAsync(file.Reopen(), new Qcow2OpenOptions());
        await using FormatNode node = new("node0", file.Name, driver, backing: null);
        await node.WriteCompressedAsync(0, Text(Cluster, seed: 1));
        byte[] old = new byte[Cluster];
        Mapping mapping;
        using (MapLease lease = driver.EnterLease())
        {
            mapping = await driver.MapAsync(0, Cluster, MapPurpose.Transfer);
            await node.DiscardAsync(0, Cluster);
            await driver.ReadCompressedAsync(mapping, 0, old);
        }

        await node.FlushAsync();
        await node.FlushAsync();
        byte[] content = Text(Cluster, seed: 2);
        await node.WriteCompressedAsync(Cluster, content);
        using (MapLease lease = driver.EnterLease())
        {
            Assert.Equal(mapping.FileOffset, (await driver.MapAsync(Cluster, Cluster, MapPurpose.Transfer)).FileOffset);
        }

        byte[] read = new byte[Cluster];
        await node.ReadAsync(Cluster, read);
        Assert.Equal(content, read);
    }

    // Between allocation and link somebody flushes: the refcounts are on disk, and nothing but the stream itself asks for a flush before its entry (I2).
    [Fact]
    public async Task StreamWrittenAfterItsRefcounts_IsFlushedBeforeItsEntry()
    {
        StorageLog log = new();
        TaskCompletionSource gate = new();
        StorageLogEntry? stream = null;
        ValueTask HoldStream()
        {
            if (stream is not null || log.Entries is not [.., { Kind: StorageCalls.Write } last] || last.Length % 512 == 0)
            {
                return ValueTask.CompletedTask;
            }

            stream = last;
            return new ValueTask(gate.Task);
        }

        RecordingFile file = new((await NewImageAsync(clusters: 8)).Reopen(), log, HoldStream);
        await using FormatNode node = new("node0", "a", await Qcow2Driver.OpenAsync(file, new Qcow2OpenOptions()), backing: null);
        Task write = node.WriteCompressedAsync(0, Text(Cluster, seed: 1)).AsTask();
        Assert.False(write.IsCompleted);
        await node.FlushAsync();
        gate.SetResult();
        await write;
        await node.FlushAsync();
        StorageLogEntry entry = log.Entries.First(call => call.Kind == StorageCalls.Write && call.Begin > stream!.End);
        Assert.Contains(log.Entries, call => call.Kind == StorageCalls.Flush && call.Begin > stream!.End && call.End < entry.Begin);
    }

    [Fact]
    public async Task ImpossibleRequests_AreRefused()
    {
        MemoryFile file = await NewImageAsync(clusters: 8);
        await using FormatNode node = await OpenAsync(file.Reopen());
        Assert.Equal(Errno.EINVAL, await ErrnoOfAsync(node, 512, Cluster));
        Assert.Equal(Errno.EINVAL, await ErrnoOfAsync(node, 0, Cluster - 512));
        await using FormatNode raw = new("raw", "raw", new RawDriver(new MemoryFile("raw", content: new byte[8192])), backing: null);
        Assert.Equal(Errno.EOPNOTSUPP, await ErrnoOfAsync(raw, 0, 8192));
        await using FormatNode reader = new("r", "r", await Qcow2Driver.OpenAsync(file.Reopen(readOnly: true), new Qcow2OpenOptions { ReadOnly = true }), null);
        Assert.Equal(Errno.EROFS, await ErrnoOfAsync(reader, 0, Cluster));
    }

    [Fact]
    public void Descriptor_AtEveryLimit_SaysWhereTheStreamIs()
    {
        for (int bits = 9; bits <= 21; bits++)
        {
            int longest = (1 << bits) - 1;
            foreach (long offset in new[] { 1L << bits, (1L << bits) + 511, L2Entry.CompressedOffsetEnd(bits) - longest })
            {
                foreach (int length in new[] { 1, 512, longest })
                {
                    L2Entry entry = L2Entry.ForCompressed(offset, length, bits);
                    Assert.Equal(ClusterKind.Compressed, entry.Kind(3));
                    (long start, int covered) = entry.CompressedExtent(bits);
                    Assert.Equal(offset, start);
                    Assert.InRange(covered - length, 0, 511);
                    Assert.Equal(0, (start + covered) % 512);
                }
            }
        }
    }

    private static async Task<Errno> ErrnoOfAsync(FormatNode node, long offset, int length) =>
        (await Assert.ThrowsAsync<BlockIOException>(async () => await node.WriteCompressedAsync(offset, new byte[length]))).Errno;

    private static async Task<MemoryFile> NewImageAsync(int clusters, int refcountBits = 16)
    {
        MemoryFile file = new();
        await Qcow2Create.CreateAsync(file, new Qcow2CreateOptions { Size = clusters * Cluster, ClusterSize = Cluster, RefcountBits = refcountBits });
        return file;
    }

    private static async Task<FormatNode> OpenAsync(MemoryFile file) =>
        new("node0", file.Name, await Qcow2Driver.OpenAsync(file, new Qcow2OpenOptions { DiscardToHost = true }), backing: null);

    private static async Task<L2Entry[]> L2EntriesAsync(MemoryFile file, int count)
    {
        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file);
        L1Table l1 = await L1Table.LoadAsync(file, header.L1TableOffset, header.L1Size);
        byte[] table = new byte[count * sizeof(ulong)];
        await file.ReadAsync(l1.Get(0).TableOffset, table);
        return [.. Enumerable.Range(0, count).Select(i => new L2Entry(BinaryPrimitives.ReadUInt64BigEndian(table.AsSpan(i * sizeof(ulong)))))];
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

    private static byte[] Repeated(int period)
    {
        byte[] block = new byte[period];
        new Random(period).NextBytes(block);
        byte[] content = new byte[65536];
        for (int i = 0; i < content.Length; i++)
        {
            content[i] = block[i % period];
        }

        return content;
    }

    // Text, noise, and mixtures, cluster by cluster.
    private static byte[] Content(int length, int cluster, Random random)
    {
        byte[] content = new byte[length];
        random.NextBytes(content);
        for (int start = 0; start < length; start += cluster)
        {
            int plain = random.Next(4) switch { 0 => 0, 1 => cluster / 2, _ => cluster };
            foreach (ref byte b in content.AsSpan(start, Math.Min(plain, length - start)))
            {
                b = (byte)(0x61 + (b & 7));
            }
        }

        return content;
    }
}
