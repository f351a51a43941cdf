using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Formats.Qcow2.Snapshots;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Formats;

public sealed class SnapshotTableTests
{
    private static readonly Qcow2Header s_header = HeaderSamples.Header with { SnapshotCount = 2, SnapshotsOffset = 65536 };

    [Fact]
    public async Task Load_TwoEntries_AreDecoded()
    {
        MemoryFile file = new(content: [.. new byte[65536], .. Entry("1", "first", 24), .. Entry("2", "second", 0)]);
        IReadOnlyList<SnapshotEntry> snapshots = await SnapshotTable.LoadAsync(file, s_header);
        Assert.Equal(["first", "second"], snapshots.Select(snapshot => snapshot.Name));
        Assert.Equal(["1", "2"], snapshots.Select(snapshot => snapshot.Id));
        Assert.Equal(7L, snapshots[0].InstructionCount);
        Assert.Null(snapshots[1].InstructionCount);
        Assert.Equal(s_header.Size, snapshots[1].DiskSize);
    }

    [Fact]
    public async Task Load_LastPaddingMissing_IsAccepted()
    {
        byte[] image = [.. new byte[65536], .. Entry("1", "first", 24), .. Entry("2", "second", 0)];
        MemoryFile file = new(content: image.AsSpan(0, image.Length - 1));
        Assert.Equal(2, (await SnapshotTable.LoadAsync(file, s_header)).Count);
    }

    [Fact]
    public async Task Load_ManyLongEntries_CrossTheWindow()
    {
        byte[] entry = Entry("id", new string('n', 60000), 1024);
        MemoryFile file = new(content: [.. new byte[65536], .. Enumerable.Repeat(entry, 20).SelectMany(bytes => bytes)]);
        IReadOnlyList<SnapshotEntry> snapshots = await SnapshotTable.LoadAsync(file, s_header with { SnapshotCount = 20 });
        Assert.Equal(20, snapshots.Count);
        Assert.All(snapshots, snapshot => Assert.Equal(60000, snapshot.Name.Length));
    }

    [Fact]
    public async Task Load_TableOfMoreThan64MiB_IsRefused()
    {
        byte[] entry = Entry(new string('i', 65535), new string('n', 65535), 1024);
        byte[] image = new byte[65536 + (600 * entry.Length)];
        for (int i = 0; i < 600; i++)
        {
            entry.CopyTo(image, 65536 + (i * entry.Length));
        }

        var e = await Assert.ThrowsAsync<ImageFormatException>(
            async () => await SnapshotTable.LoadAsync(new SparseFile("x", image.Length, image), s_header with { SnapshotCount = 600 }));
        Assert.Contains("longer than 67108864 bytes", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(36, 1025u, "1025 bytes of extra data")]
    [InlineData(36, uint.MaxValue, "4294967295 bytes of extra data")]
    [InlineData(12, uint.MaxValue, "past the end of the file")]
    public async Task Load_LengthPastItsLimit_IsRefused(int offset, uint value, string words)
    {
        byte[] image = [.. new byte[65536], .. Entry("1", "first", 24), .. Entry("2", "second", 0)];
        BinaryPrimitives.WriteUInt32BigEndian(image.AsSpan(65536 + offset), value);
        var e = await Assert.ThrowsAsync<ImageFormatException>(async () => await SnapshotTable.LoadAsync(new MemoryFile(content: image), s_header));
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
    }

    // 0: u64 L1 offset  8: u32 L1 entries  12: u16 id length  14: u16 name length  16: u32 s  20: u32 ns  24: u64 clock  32: u32 state  36: u32 extra
    [Fact]
    public void Encode_NewEntry_FillsEveryFieldAtItsPlace()
    {
        byte[] table = SnapshotTable.Encode([NewEntry], version: 3);
        Assert.Equal(40 + 24 + 2 + 4, table.Length);
        Assert.Equal(0x0102030405060000L, BinaryPrimitives.ReadInt64BigEndian(table));
        Assert.Equal(0x11121314, BinaryPrimitives.ReadInt32BigEndian(table.AsSpan(8)));
        Assert.Equal(2, BinaryPrimitives.ReadUInt16BigEndian(table.AsSpan(12)));
        Assert.Equal(4, BinaryPrimitives.ReadUInt16BigEndian(table.AsSpan(14)));
        Assert.Equal(0xf1f2f3f4u, BinaryPrimitives.ReadUInt32BigEndian(table.AsSpan(16)));
        Assert.Equal(999_999_999u, BinaryPrimitives.ReadUInt32BigEndian(table.AsSpan(20)));
        Assert.Equal(0xa1a2a3a4a5a6a7a8ul, BinaryPrimitives.ReadUInt64BigEndian(table.AsSpan(24)));
        // A state longer than 32 bits is told in the extra data only.
        Assert.Equal(0u, BinaryPrimitives.ReadUInt32BigEndian(table.AsSpan(32)));
        Assert.Equal(24, BinaryPrimitives.ReadInt32BigEndian(table.AsSpan(36)));
        Assert.Equal(0x1_0000_0000L, BinaryPrimitives.ReadInt64BigEndian(table.AsSpan(40)));
        Assert.Equal(0x2122232425262700L, BinaryPrimitives.ReadInt64BigEndian(table.AsSpan(48)));
        Assert.Equal(-1L, BinaryPrimitives.ReadInt64BigEndian(table.AsSpan(56)));
        Assert.Equal("17n\u00e4m"u8.ToArray(), table[64..]);
    }

    [Theory]
    [InlineData(uint.MaxValue, uint.MaxValue)]
    [InlineData(uint.MaxValue + 1L, 0u)]
    [InlineData(0L, 0u)]
    public void Encode_StateSize_AlsoInTheOldFieldWhereItFits(long stateSize, uint stored)
    {
        byte[] table = SnapshotTable.Encode([NewEntry with { VmStateSize = stateSize }], version: 3);
        Assert.Equal(stored, BinaryPrimitives.ReadUInt32BigEndian(table.AsSpan(32)));
        Assert.Equal(stateSize, BinaryPrimitives.ReadInt64BigEndian(table.AsSpan(40)));
    }

    [Theory]
    [InlineData(0, 2)]
    [InlineData(7, 2)]
    [InlineData(8, 2)]
    [InlineData(16, 2)]
    [InlineData(16, 3)]
    [InlineData(23, 3)]
    [InlineData(24, 3)]
    [InlineData(25, 3)]
    [InlineData(1024, 3)]
    public async Task EncodeOfWhatWasLoaded_ReturnsEveryByte(int extraLength, int version)
    {
        byte[] stored = [.. RandomEntry(extraLength, [0xff, 0xfe], [0xc3, 0x28, 0]), .. RandomEntry(24, "2"u8, "second"u8)];
        IReadOnlyList<SnapshotEntry> snapshots = await SnapshotTable.LoadAsync(new MemoryFile(content: [.. new byte[65536], .. stored]), s_header);
        byte[] table = SnapshotTable.Encode(snapshots, version);
        // Only the padding behind the last entry is not part of it.
        Assert.Equal(stored.AsSpan(0, table.Length).ToArray(), table);
        Assert.InRange(stored.Length - table.Length, 0, 7);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(8)]
    [InlineData(15)]
    public async Task Encode_Version3WithoutDiskSize_GetsTheSizeItWasTakenFor(int extraLength)
    {
        byte[] stored = [.. Entry("1", "first", extraLength), .. Entry("2", "second", 24)];
        IReadOnlyList<SnapshotEntry> snapshots = await SnapshotTable.LoadAsync(new MemoryFile(content: [.. new byte[65536], .. stored]), s_header);
        byte[] table = SnapshotTable.Encode(snapshots, version: 3);
        Assert.Equal(24, BinaryPrimitives.ReadInt32BigEndian(table.AsSpan(36)));
        Assert.Equal(s_header.Size, BinaryPrimitives.ReadInt64BigEndian(table.AsSpan(48)));
        Assert.Equal("1first"u8.ToArray(), table[64..70]);
    }

    [Fact]
    public void Encode_MoreThan64MiB_IsRefused()
    {
        SnapshotEntry[] entries = Enumerable.Repeat(NewEntry with { Name = new string('n', 65535) }, 1022).ToArray();
        Assert.True(SnapshotTable.Encode(entries, 3).Length <= 64 << 20);
        var e = Assert.Throws<BlockIOException>(() => SnapshotTable.Encode([.. entries, entries[0]], 3));
        Assert.Equal(Errno.EFBIG, e.Errno);
    }

    [Theory]
    [InlineData(new string[0], "1")]
    [InlineData(new[] { "1", "7", "3" }, "8")]
    [InlineData(new[] { "vm-9", "12th" }, "13")]
    [InlineData(new[] { "18446744073709551615" }, "0")]
    [InlineData(new[] { "18446744073709551615", "0", "1" }, "2")]
    public void NewId_IsOneMoreThanTheHighest(string[] ids, string expected) =>
        Assert.Equal(expected, SnapshotNames.NewId([.. ids.Select(id => NewEntry with { Id = id })]));

    private static SnapshotEntry NewEntry => new()
    {
        Id = "17",
        Name = "n\u00e4m",
        L1TableOffset = 0x0102030405060000,
        L1Size = 0x11121314,
        DateSeconds = 0xf1f2f3f4,
        DateNanoseconds = 999_999_999,
        VmClockNanoseconds = 0xa1a2a3a4a5a6a7a8,
        VmStateSize = 0x1_0000_0000,
        DiskSize = 0x2122232425262700,
    };

    private static byte[] RandomEntry(int extraLength, ReadOnlySpan<byte> id, ReadOnlySpan<byte> name)
    {
        byte[] entry = new byte[(40 + extraLength + id.Length + name.Length + 7) & ~7];
        new Random(extraLength).NextBytes(entry.AsSpan(0, 40 + extraLength));
        BinaryPrimitives.WriteUInt16BigEndian(entry.AsSpan(12), (ushort)id.Length);
        BinaryPrimitives.WriteUInt16BigEndian(entry.AsSpan(14), (ushort)name.Length);
        BinaryPrimitives.WriteInt32BigEndian(entry.AsSpan(36), extraLength);
        if (extraLength >= 8)
        {
            // The old field repeats the state size, as long as it fits.
            BinaryPrimitives.WriteInt64BigEndian(entry.AsSpan(40), 0x01020304);
            BinaryPrimitives.WriteInt32BigEndian(entry.AsSpan(32), 0x01020304);
        }

        id.CopyTo(entry.AsSpan(40 + extraLength));
        name.CopyTo(entry.AsSpan(40 + extraLength + id.Length));
        return entry;
    }

    private static byte[] Entry(string id, string name, int extraLength)
    {
        int length = 40 + extraLength + id.Length + name.Length;
        byte[] entry = new byte[(length + 7) & ~7];
        BinaryPrimitives.WriteUInt16BigEndian(entry.AsSpan(12), (ushort)id.Length);
        BinaryPrimitives.WriteUInt16BigEndian(entry.AsSpan(14), (ushort)name.Length);
        BinaryPrimitives.WriteInt32BigEndian(entry.AsSpan(36), extraLength);
        if (extraLength >= 24)
        {
            BinaryPrimitives.WriteInt64BigEndian(entry.AsSpan(40 + 16), 7);
        }

        System.Text.Encoding.ASCII.GetBytes(id).CopyTo(entry, 40 + extraLength);
        System.Text.Encoding.ASCII.GetBytes(name).CopyTo(entry, 40 + extraLength + id.Length);
        return entry;
    }
}
