using System.Buffers.Binary;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Formats;

public sealed class Qcow2HeaderTests
{
    private const int ClusterSize = HeaderSamples.ClusterSize;

    [Fact]
    public void Parse_WrittenHeader_GivesTheSameValues()
    {
        Qcow2Header header = HeaderSamples.Header with
        {
            Backing = new BackingReference("../base ö.qcow2", "qcow2"),
            AutoclearFeatures = 1UL << 63,
            CompatibleFeatures = 1UL << 40,
            UnknownHeaderBytes = new byte[] { 1, 2, 3, 4, 5, 6, 7, 8 },
            Extensions = [new HeaderExtension(0x12345678, new byte[] { 9, 8, 7 }), FeatureNameTable.Create()],
        };

        byte[] bytes = HeaderSamples.Bytes(header);
        Qcow2Header parsed = Qcow2HeaderReader.Parse(bytes, HeaderSamples.FileLength, "x");

        Assert.Equal(header.Backing, parsed.Backing);
        Assert.Equal(1UL << 63, parsed.AutoclearFeatures);
        Assert.Equal(1UL << 40, parsed.CompatibleFeatures);
        Assert.Equal(header.UnknownHeaderBytes.ToArray(), parsed.UnknownHeaderBytes.ToArray());
        Assert.Equal(2, parsed.Extensions.Count);
        Assert.Equal(0x12345678u, parsed.Extensions[0].Type);
        Assert.Equal([9, 8, 7], parsed.Extensions[0].Data.ToArray());
        Assert.Equal(bytes, HeaderSamples.Bytes(parsed));
    }

    [Fact]
    public void Parse_Version2_ImpliesItsFields()
    {
        Qcow2Header header = HeaderSamples.Header with { Version = 2, Extensions = [], Backing = new BackingReference("b", "raw") };
        Qcow2Header parsed = Qcow2HeaderReader.Parse(HeaderSamples.Bytes(header), HeaderSamples.FileLength, "x");

        Assert.Equal(72, parsed.HeaderLength);
        Assert.Equal(4, parsed.RefcountOrder);
        Assert.Equal(0UL, parsed.IncompatibleFeatures);
        Assert.Equal(header.Backing, parsed.Backing);
    }

    [Theory]
    [InlineData(1UL << 5, "Unknown incompatible feature: 20")]
    [InlineData(1UL << 63, "Unknown incompatible feature: 8000000000000000")]
    public void CheckOpen_UnsupportedFeature_IsRefusedByName(ulong bits, string words)
    {
        Qcow2Header header = HeaderSamples.Header with { IncompatibleFeatures = bits };
        var e = Assert.Throws<ImageFormatException>(() => FeaturePolicy.CheckOpen(header, readOnly: true, "x.qcow2"));
        Assert.Contains("Unsupported qcow2 feature(s): ", e.Message, StringComparison.Ordinal);
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
        Assert.NotNull(e.Hint);
    }

    [Fact]
    public void CheckOpen_UnknownFeatureNamedByTheImage_SaysItsName()
    {
        byte[] entry = new byte[48];
        entry[1] = 17;
        "time\u0007travel"u8.CopyTo(entry.AsSpan(2));
        Qcow2Header header = HeaderSamples.Header with
        {
            IncompatibleFeatures = 1UL << 17,
            Extensions = [new HeaderExtension(HeaderExtensionType.FeatureNameTable, entry)],
        };
        var e = Assert.Throws<ImageFormatException>(() => FeaturePolicy.CheckKnown(header, "x.qcow2"));
        Assert.EndsWith("feature(s): time?travel", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(FeatureBits.Dirty, "marked dirty")]
    [InlineData(FeatureBits.Corrupt, "qcow2: Image is corrupt; cannot be opened read/write")]
    public void CheckOpen_DirtyOrCorrupt_IsReadableAndNotWritable(ulong bits, string words)
    {
        Qcow2Header header = HeaderSamples.Header with { IncompatibleFeatures = bits };
        FeaturePolicy.CheckOpen(header, readOnly: true, "x.qcow2");
        var e = Assert.Throws<ImageFormatException>(() => FeaturePolicy.CheckOpen(header, readOnly: false, "x.qcow2"));
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
        Assert.Contains("blockmount check -r all", e.Hint, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1, "AES")]
    [InlineData(2, "LUKS")]
    public void CheckOpen_Encrypted_IsRefusedByName(int method, string word)
    {
        Qcow2Header header = HeaderSamples.Header with { CryptMethod = method };
        var e = Assert.Throws<ImageFormatException>(() => FeaturePolicy.CheckOpen(header, readOnly: true, "x.qcow2"));
        Assert.Contains(word, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Load_TruncatedAtEveryLength_IsRefusedOrComplete()
    {
        byte[] image = new byte[4 * ClusterSize];
        HeaderSamples.Bytes(HeaderSamples.Header with { Backing = new BackingReference("base", "raw") }).CopyTo(image, 0);
        for (int length = 0; length < 700; length++)
        {
            var file = new MemoryFile(content: image.AsSpan(0, length));
            await Assert.ThrowsAsync<ImageFormatException>(async () => await Qcow2HeaderReader.LoadAsync(file));
        }

        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(new MemoryFile(content: image));
        Assert.Equal("base", header.Backing?.FileName);
    }

    [Fact]
    public void Write_BackingNameTooLongForTheCluster_IsRefused()
    {
        Qcow2Header header = HeaderSamples.Header with
        {
            ClusterBits = 9,
            Size = 512,
            Backing = new BackingReference(new string('a', 400), "raw"),
        };
        var e = Assert.Throws<ImageFormatException>(() => Qcow2HeaderWriter.Write(header));
        Assert.Contains("does not fit", e.Message, StringComparison.Ordinal);
        Assert.Throws<ImageFormatException>(() => Qcow2HeaderWriter.Write(HeaderSamples.Header with { Backing = new BackingReference(new string('a', 1024), null) }));
    }

    [Fact]
    public void Write_SmallCluster_LeavesTheNameTableOutFirst()
    {
        Qcow2Header header = HeaderSamples.Header with { ClusterBits = 9, Size = 512, Backing = new BackingReference("base.raw", "raw") };
        byte[] bytes = Qcow2HeaderWriter.Write(header);
        Assert.True(bytes.Length < 512);
    }

    [Fact]
    public void Parse_NameWithNulOrBadUtf8_IsRefused()
    {
        byte[] bytes = HeaderSamples.Bytes(HeaderSamples.Header with { Backing = new BackingReference("abcd", "raw") });
        int position = (int)BinaryPrimitives.ReadUInt64BigEndian(bytes.AsSpan(Qcow2HeaderFields.BackingFileOffset));
        bytes[position + 1] = 0;
        Assert.Throws<ImageFormatException>(() => Qcow2HeaderReader.Parse(bytes, HeaderSamples.FileLength, "x"));
        bytes[position + 1] = 0xff;
        Assert.Throws<ImageFormatException>(() => Qcow2HeaderReader.Parse(bytes, HeaderSamples.FileLength, "x"));
    }

    [Theory]
    [InlineData(0x12345678u, uint.MaxValue)]
    [InlineData(0x12345678u, 0x80000000u)]
    [InlineData(HeaderExtensionType.BackingFormat, 16u)]
    [InlineData(HeaderExtensionType.FeatureNameTable, 65536u)]
    public void Parse_ExtensionTooLong_IsRefused(uint type, uint length)
    {
        byte[] bytes = HeaderSamples.Bytes(HeaderSamples.Header with { Extensions = [] });
        BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(112), type);
        BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(116), length);
        Assert.Throws<ImageFormatException>(() => Qcow2HeaderReader.Parse(bytes, HeaderSamples.FileLength, "x"));
    }
}
