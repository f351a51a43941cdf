using System.IO.Compression;
using System.Runtime.InteropServices;
using BlockMount.Formats.Qcow2.Compression;
using Xunit;

namespace BlockMount.Tests.Formats;

public sealed partial class ClusterDecompressorTests
{
    private const int ClusterSize = 65536;

    private static readonly byte[] s_cluster = MakeCluster();

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Decompress_GarbageBehindTheStream_IsIgnored(byte type)
    {
        byte[] stream = [.. Compress(type, s_cluster), .. new byte[] { 0xde, 0xad, 0xbe, 0xef, 0x28, 0xb5, 0x2f, 0xfd }];
        byte[] result = new byte[ClusterSize];
        ClusterDecompressor.For(type).Decompress(stream, result);
        Assert.Equal(s_cluster, result);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Decompress_StreamOfMoreThanACluster_FillsTheCluster(byte type)
    {
        byte[] stream = Compress(type, [.. s_cluster, .. s_cluster]);
        byte[] result = new byte[ClusterSize];
        ClusterDecompressor.For(type).Decompress(stream, result);
        Assert.Equal(s_cluster, result);
    }

    [Fact]
    public void Decompress_SeveralZstdFrames_AreJoined()
    {
        byte[] stream = [.. Compress(1, s_cluster[..1000]), .. Compress(1, s_cluster[1000..60000]), .. Compress(1, s_cluster[60000..])];
        byte[] result = new byte[ClusterSize];
        ClusterDecompressor.For(1).Decompress(stream, result);
        Assert.Equal(s_cluster, result);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Decompress_StreamCutAnywhere_IsRefused(byte type)
    {
        byte[] stream = Compress(type, s_cluster);
        ClusterDecompressor codec = ClusterDecompressor.For(type);
        for (int length = 0; length < stream.Length - 8; length += Math.Max(1, stream.Length / 200))
        {
            byte[] cut = stream[..length];
            Assert.Throws<InvalidDataException>(() => codec.Decompress(cut, new byte[ClusterSize]));
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Decompress_RandomBytes_AreRefusedOrExpand(byte type)
    {
        ClusterDecompressor codec = ClusterDecompressor.For(type);
        var random = new Random(7);
        byte[] noise = new byte[4096];
        int refused = 0;
        for (int i = 0; i < 500; i++)
        {
            random.NextBytes(noise);
            try
            {
                codec.Decompress(noise, new byte[ClusterSize]);
            }
            catch (InvalidDataException)
            {
                refused++;
            }
        }

        Assert.True(refused > 400);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public async Task Decompress_ManyThreadsAndAfterFailures_GivesTheRightBytes(byte type)
    {
        ClusterDecompressor codec = ClusterDecompressor.For(type);
        byte[] stream = Compress(type, s_cluster);
        await Parallel.ForEachAsync(Enumerable.Range(0, 200), (i, _) =>
        {
            if (i % 3 == 0)
            {
                Assert.Throws<InvalidDataException>(() => codec.Decompress(stream.AsSpan(0, stream.Length / 2), new byte[ClusterSize]));
            }

            byte[] result = new byte[ClusterSize];
            codec.Decompress(stream, result);
            Assert.True(result.AsSpan().SequenceEqual(s_cluster));
            return ValueTask.CompletedTask;
        });
    }

    private static byte[] MakeCluster()
    {
        byte[] cluster = new byte[ClusterSize];
        new Random(1).NextBytes(cluster.AsSpan(0, 20000));
        return cluster;
    }

    private static byte[] Compress(byte type, byte[] content)
    {
        if (type == 0)
        {
            using MemoryStream target = new();
            using (DeflateStream deflate = new(target, CompressionLevel.Optimal))
            {
                deflate.Write(content);
            }

            return target.ToArray();
        }

        byte[] buffer = new byte[content.Length + 1024];
        nuint length = ZSTD_compress(buffer, (nuint)buffer.Length, content, (nuint)content.Length, 3);
        Assert.True(length < (nuint)buffer.Length);
        return buffer[..(int)length];
    }

    [LibraryImport("libzstd.so.1")]
    private static partial nuint ZSTD_compress(byte[] target, nuint capacity, byte[] source, nuint length, int level);
}
