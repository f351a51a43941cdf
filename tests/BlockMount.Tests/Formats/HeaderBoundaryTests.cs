using System.Buffers.Binary;
using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.OnDisk;
using Xunit;

namespace BlockMount.Tests.Formats;

/// <summary>
/// RELIABILITY S2 to S4: each field of the header with each value at a boundary. Whatever the value, the answer is a header or
/// a refusal that names the file, within two seconds and 256 MiB.
/// </summary>
public sealed class HeaderBoundaryTests
{
    private const long AllocatedBytesMax = 256 << 20;
    private static readonly TimeSpan s_timeMax = TimeSpan.FromSeconds(2);

    /// <summary>Offset and width of each field, and its largest lawful value.</summary>
    public static TheoryData<string, int, int, ulong> Fields => new()
    {
        { "magic", Qcow2HeaderFields.Magic, 4, Qcow2Header.Magic },
        { "version", Qcow2HeaderFields.Version, 4, 3 },
        { "backing_file_offset", Qcow2HeaderFields.BackingFileOffset, 8, 65536 },
        { "backing_file_size", Qcow2HeaderFields.BackingFileSize, 4, 1023 },
        { "cluster_bits", Qcow2HeaderFields.ClusterBits, 4, 21 },
        { "size", Qcow2HeaderFields.Size, 8, 2UL << 29 },
        { "crypt_method", Qcow2HeaderFields.CryptMethod, 4, 2 },
        { "l1_size", Qcow2HeaderFields.L1Size, 4, 1 << 22 },
        { "l1_table_offset", Qcow2HeaderFields.L1TableOffset, 8, 7 * HeaderSamples.ClusterSize },
        { "refcount_table_offset", Qcow2HeaderFields.RefcountTableOffset, 8, 7 * HeaderSamples.ClusterSize },
        { "refcount_table_clusters", Qcow2HeaderFields.RefcountTableClusters, 4, 128 },
        { "nb_snapshots", Qcow2HeaderFields.SnapshotCount, 4, 65536 },
        { "snapshots_offset", Qcow2HeaderFields.SnapshotsOffset, 8, 7 * HeaderSamples.ClusterSize },
        { "incompatible_features", Qcow2HeaderFields.IncompatibleFeatures, 8, FeatureBits.IncompatibleKnown },
        { "compatible_features", Qcow2HeaderFields.CompatibleFeatures, 8, ulong.MaxValue },
        { "autoclear_features", Qcow2HeaderFields.AutoclearFeatures, 8, ulong.MaxValue },
        { "refcount_order", Qcow2HeaderFields.RefcountOrder, 4, 6 },
        { "header_length", Qcow2HeaderFields.HeaderLength, 4, 65536 },
        { "compression_type", Qcow2HeaderFields.CompressionType, 1, 1 },
        { "extension type", 112, 4, HeaderExtensionType.BackingFormat },
        { "extension length", 116, 4, 65536 - 120 },
    };

    [Theory]
    [MemberData(nameof(Fields))]
    public async Task Open_FieldAtEveryBoundary_IsAnsweredOrRefusedCheaply(string field, int offset, int width, ulong max)
    {
        ulong[] values = [0, 1, 2, 3, 8, 9, 511, 512, 65535, 65536, max - 1, max, max + 1, 1UL << 31, uint.MaxValue, 1UL << 55, 1UL << 56, 1UL << 62, (1UL << 63) - 1, 1UL << 63, ulong.MaxValue - 65535, ulong.MaxValue];
        foreach (ulong value in values)
        {
            foreach ((long fileLength, bool snapshots) in new[] { (HeaderSamples.FileLength, false), (HeaderSamples.FileLength, true), (1L << 40, false), (1L << 40, true) })
            {
                byte[] bytes = HeaderSamples.Bytes(HeaderSamples.Header with
                {
                    SnapshotCount = snapshots ? 3 : 0,
                    SnapshotsOffset = snapshots ? 5 * HeaderSamples.ClusterSize : 0,
                    Backing = new BackingReference("base", "raw"),
                });
                Poke(bytes.AsSpan(offset), width, value);
                await OpenCheaplyAsync(new SparseFile("hostile.qcow2", fileLength, bytes), $"{field} = {value}");
            }
        }
    }

    [Theory]
    [InlineData(Qcow2HeaderFields.L1Size, 4, (1UL << 22) + 1, "l1_size is 4194305, more than 4194304")]
    [InlineData(Qcow2HeaderFields.L1Size, 4, 1UL, "l1_size is 1, too small: the virtual size 1073741824 needs 2")]
    [InlineData(Qcow2HeaderFields.L1TableOffset, 8, 0UL, "L1 table offset 0 lies inside the header")]
    [InlineData(Qcow2HeaderFields.L1TableOffset, 8, 65537UL, "L1 table offset 65537 is not a multiple of the cluster size 65536")]
    [InlineData(Qcow2HeaderFields.L1TableOffset, 8, 1UL << 63, "L1 table offset 9223372036854775808 exceeds")]
    [InlineData(Qcow2HeaderFields.L1TableOffset, 8, 8UL << 16, "ends past the end of the file (524288 bytes)")]
    [InlineData(Qcow2HeaderFields.L1TableOffset, 8, 1UL << 16, "the L1 table at 65536 and the refcount table at 65536 overlap")]
    [InlineData(Qcow2HeaderFields.RefcountTableClusters, 4, 0UL, "refcount_table_clusters is 0, outside 1 to 128")]
    [InlineData(Qcow2HeaderFields.RefcountTableClusters, 4, 129UL, "refcount_table_clusters is 129, outside 1 to 128")]
    [InlineData(Qcow2HeaderFields.RefcountTableOffset, 8, 0UL, "refcount table offset 0 lies inside the header")]
    [InlineData(Qcow2HeaderFields.RefcountOrder, 4, 7UL, "refcount_order is 7, more than 6")]
    [InlineData(Qcow2HeaderFields.ClusterBits, 4, 8UL, "cluster_bits is 8, outside 9 to 21")]
    [InlineData(Qcow2HeaderFields.ClusterBits, 4, 22UL, "cluster_bits is 22, outside 9 to 21")]
    [InlineData(Qcow2HeaderFields.Version, 4, 1UL, "Unsupported qcow2 version 1")]
    [InlineData(Qcow2HeaderFields.Version, 4, 4UL, "Unsupported qcow2 version 4")]
    [InlineData(Qcow2HeaderFields.HeaderLength, 4, 103UL, "header_length is 103, outside 104 to the cluster size 65536")]
    [InlineData(Qcow2HeaderFields.HeaderLength, 4, 65537UL, "header_length is 65537")]
    [InlineData(Qcow2HeaderFields.CryptMethod, 4, 3UL, "crypt_method is 3")]
    [InlineData(Qcow2HeaderFields.Size, 8, 1UL << 63, "the virtual size 9223372036854775808 exceeds")]
    [InlineData(Qcow2HeaderFields.SnapshotCount, 4, 65537UL, "nb_snapshots is 65537, more than 65536")]
    [InlineData(Qcow2HeaderFields.CompressionType, 1, 1UL, "compression_type is 1, but the incompatible feature bit 3 is not set")]
    [InlineData(Qcow2HeaderFields.CompressionType, 1, 2UL, "compression_type is 2, known are")]
    [InlineData(Qcow2HeaderFields.IncompatibleFeatures, 8, 8UL, "compression_type is 0, but the incompatible feature bit 3 is set")]
    [InlineData(Qcow2HeaderFields.BackingFileOffset, 8, 70000UL, "backing_file_offset is 70000, outside the first cluster")]
    [InlineData(Qcow2HeaderFields.BackingFileOffset, 8, 8UL, "backing_file_offset is 8, outside the first cluster behind the header")]
    [InlineData(Qcow2HeaderFields.BackingFileSize, 4, 1024UL, "backing_file_size is 1024, more than 1023")]
    public void Parse_FieldPastItsLimit_IsRefusedWithFieldValueAndLimit(int offset, int width, ulong value, string words)
    {
        byte[] bytes = HeaderSamples.Bytes(HeaderSamples.Header with { Backing = new BackingReference("base", "raw") });
        Poke(bytes.AsSpan(offset), width, value);
        var e = Assert.Throws<ImageFormatException>(() => Qcow2HeaderReader.Parse(bytes, HeaderSamples.FileLength, "x.qcow2"));
        Assert.StartsWith("Could not open 'x.qcow2': ", e.Message, StringComparison.Ordinal);
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Open_LargestLawfulTables_StaysCheap()
    {
        // 8 MiB of refcount table, 32 MiB of L1 table, 65536 snapshots, 4096 extensions: as much as a header can ask for.
        Qcow2Header header = HeaderSamples.Header with
        {
            Size = 1L << 40,
            L1Size = 1 << 22,
            L1TableOffset = 1L << 32,
            RefcountTableOffset = 1L << 33,
            RefcountTableClusters = 128,
            SnapshotCount = 65536,
            SnapshotsOffset = 1L << 34,
            Extensions = [.. Enumerable.Range(1, 4096).Select(i => new HeaderExtension((uint)i, default))],
        };
        await OpenCheaplyAsync(new SparseFile("large.qcow2", 1L << 40, HeaderSamples.Bytes(header)), "largest tables", mustOpen: true);
    }

    private static async Task OpenCheaplyAsync(SparseFile file, string what, bool mustOpen = false)
    {
        // Everything completes on this thread: the file is in memory.
        long allocatedBefore = GC.GetAllocatedBytesForCurrentThread();
        var clock = Stopwatch.StartNew();
        try
        {
            await ImageInfo.LoadAsync(file, file.Name, "qcow2");
            await using Qcow2Driver driver = await Qcow2Driver.OpenAsync(file, new Qcow2OpenOptions { ReadOnly = true, CacheBytes = 1 << 20 });
        }
        catch (BlockMountException e) when (!mustOpen)
        {
            Assert.Contains(file.Name, e.Message, StringComparison.Ordinal);
        }

        Assert.True(clock.Elapsed < s_timeMax, $"{what}: {clock.Elapsed}");
        long allocated = GC.GetAllocatedBytesForCurrentThread() - allocatedBefore;
        Assert.True(allocated < AllocatedBytesMax, $"{what}: {allocated} bytes");
    }

    private static void Poke(Span<byte> target, int width, ulong value)
    {
        switch (width)
        {
            case 1:
                target[0] = (byte)value;
                break;
            case 4:
                BinaryPrimitives.WriteUInt32BigEndian(target, (uint)value);
                break;
            default:
                BinaryPrimitives.WriteUInt64BigEndian(target, value);
                break;
        }
    }
}
