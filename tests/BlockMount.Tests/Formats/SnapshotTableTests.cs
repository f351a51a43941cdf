using System.Buffers.Binary;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.OnDisk;
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
