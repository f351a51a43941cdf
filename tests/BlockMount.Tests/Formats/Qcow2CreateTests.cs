using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Faults;
using Xunit;

namespace BlockMount.Tests.Formats;

/// <summary>New images in memory, judged by our own checker; qemu-img judges them in the interop tests.</summary>
public sealed class Qcow2CreateTests
{
    public static TheoryData<int, int, Preallocation> Geometries()
    {
        var data = new TheoryData<int, int, Preallocation>();
        foreach (int clusterSize in new[] { 512, 1024, 65536, 2 << 20 })
        {
            foreach (int refcountBits in new[] { 1, 2, 4, 8, 16, 32, 64 })
            {
                data.Add(clusterSize, refcountBits, Preallocation.Off);
                data.Add(clusterSize, refcountBits, Preallocation.Metadata);
                data.Add(clusterSize, refcountBits, Preallocation.Full);
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Geometries))]
    public async Task Create_AnyGeometry_IsCleanAndSaysWhatWasAsked(int clusterSize, int refcountBits, Preallocation preallocation)
    {
        long size = (clusterSize * 70L) + 512;
        MemoryFile file = new();
        await Qcow2Create.CreateAsync(file, new Qcow2CreateOptions
        {
            Size = size - 100,
            ClusterSize = clusterSize,
            RefcountBits = refcountBits,
            Preallocation = preallocation,
        });

        CheckReport report = await ConsistencyCheck.RunAsync(file);
        Assert.True(report.IsClean, report.ToString());
        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file);
        Assert.Equal(size, header.Size);
        Assert.Equal(clusterSize, header.ClusterSize);
        Assert.Equal(refcountBits, 1 << header.RefcountOrder);
        Assert.Equal(preallocation == Preallocation.Off ? 0 : 71, report.AllocatedClusters);
    }

    [Fact]
    public async Task Create_EveryOption_IsInTheHeader()
    {
        MemoryFile file = new();
        var backing = new BackingReference("base.raw", "raw");
        await Qcow2Create.CreateAsync(file, new Qcow2CreateOptions
        {
            Size = 0,
            LazyRefcounts = true,
            Backing = backing,
            Compression = Qcow2Compression.Zstd,
        });

        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file);
        Assert.Equal(0, header.Size);
        Assert.Equal(backing, header.Backing);
        Assert.Equal(1, header.CompressionType);
        Assert.Equal(FeatureBits.CompressionType, header.IncompatibleFeatures);
        Assert.Equal(FeatureBits.LazyRefcounts, header.CompatibleFeatures);
        Assert.Equal(FeatureNameTable.Create().Data.ToArray(), header.FindExtension(HeaderExtensionType.FeatureNameTable)!.Data.ToArray());
    }

    public static TheoryData<Qcow2CreateOptions, string> Impossible => new()
    {
        { new Qcow2CreateOptions { Size = -1 }, "-1" },
        { new Qcow2CreateOptions { Size = long.MaxValue }, "Invalid image size" },
        { new Qcow2CreateOptions { Size = 1L << 60 }, "too large for clusters of 65536 bytes" },
        { new Qcow2CreateOptions { Size = (128L << 30) + 1, ClusterSize = 512 }, "too large for clusters of 512 bytes" },
        { new Qcow2CreateOptions { Size = 1L << 60, ClusterSize = 2 << 20, Preallocation = Preallocation.Metadata }, "refcount table would exceed" },
        { new Qcow2CreateOptions { Size = 1, ClusterSize = 256 }, "power of two between 512 and 2048k" },
        { new Qcow2CreateOptions { Size = 1, ClusterSize = 4 << 20 }, "power of two between 512 and 2048k" },
        { new Qcow2CreateOptions { Size = 1, ClusterSize = 3000 }, "3000" },
        { new Qcow2CreateOptions { Size = 1, ClusterSize = 0 }, "Cluster size 0" },
        { new Qcow2CreateOptions { Size = 1, ClusterSize = long.MinValue }, "Cluster size" },
        { new Qcow2CreateOptions { Size = 1, RefcountBits = 3 }, "Refcount width 3" },
        { new Qcow2CreateOptions { Size = 1, RefcountBits = 128 }, "Refcount width 128" },
        { new Qcow2CreateOptions { Size = 1, RefcountBits = 0 }, "Refcount width 0" },
        { new Qcow2CreateOptions { Size = 1, Version = 4 }, "Version 4" },
        { new Qcow2CreateOptions { Size = 1, Version = 2, RefcountBits = 8 }, "compat=1.1" },
        { new Qcow2CreateOptions { Size = 1, Version = 2, LazyRefcounts = true }, "compat=1.1" },
        { new Qcow2CreateOptions { Size = 1, Version = 2, Compression = Qcow2Compression.Zstd }, "compat=1.1" },
        { new Qcow2CreateOptions { Size = 1, Backing = new BackingReference(new string('a', 1024), "raw") }, "1024 bytes" },
        { new Qcow2CreateOptions { Size = 1, Backing = new BackingReference("", "raw") }, "empty" },
        { new Qcow2CreateOptions { Size = 1, Backing = new BackingReference("a", "a format name of 20") }, "too long" },
        { new Qcow2CreateOptions { Size = 1, ClusterSize = 512, Backing = new BackingReference(new string('a', 500), "raw") }, "does not fit into the first cluster of 512" },
        { new Qcow2CreateOptions { Size = 1, Backing = new BackingReference("a", "raw"), Preallocation = Preallocation.Full }, "preallocation" },
        { new Qcow2CreateOptions { Size = 1, Version = 2, ExtendedL2 = true }, "compat=1.1" },
        { new Qcow2CreateOptions { Size = 1, ClusterSize = 8192, ExtendedL2 = true }, "at least 16384 bytes" },
        { new Qcow2CreateOptions { Size = (64L << 40) + 1, ClusterSize = 16384, ExtendedL2 = true }, "too large for clusters of 16384 bytes" },
        { new Qcow2CreateOptions { Size = 1, DataFileRaw = true }, "needs a data_file" },
    };

    /// <summary>Impossible options of images with an external data file.</summary>
    public static TheoryData<Qcow2CreateOptions, string> ImpossibleWithDataFile => new()
    {
        { new Qcow2CreateOptions { Size = 1, DataFile = "d", Version = 2 }, "compat=1.1" },
        { new Qcow2CreateOptions { Size = 1, DataFile = "" }, "empty" },
        { new Qcow2CreateOptions { Size = 1, DataFile = "a\0b" }, "NUL" },
        { new Qcow2CreateOptions { Size = 1, DataFile = new string('a', 1000), ClusterSize = 512 }, "does not fit into the first cluster of 512" },
        { new Qcow2CreateOptions { Size = (1L << 56) + 512, DataFile = "d", ClusterSize = 2 << 20 }, "external data file" },
        { new Qcow2CreateOptions { Size = 1, DataFile = "d", DataFileRaw = true, Backing = new BackingReference("a", "raw") }, "data_file_raw" },
        { new Qcow2CreateOptions { Size = 1, DataFile = "d", Preallocation = Preallocation.Full, Backing = new BackingReference("a", "raw") }, "preallocation" },
    };

    [Theory]
    [MemberData(nameof(ImpossibleWithDataFile))]
    public async Task Create_ImpossibleDataFile_LeavesBothFilesEmpty(Qcow2CreateOptions options, string words)
    {
        MemoryFile file = new();
        MemoryFile data = new();
        var e = await Assert.ThrowsAsync<ImageFormatException>(async () => await Qcow2Create.CreateAsync(file, options, data));
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
        Assert.Equal((0, 0), (file.Length, data.Length));
    }

    [Theory]
    [InlineData(false, Preallocation.Off, 0)]
    [InlineData(false, Preallocation.Metadata, 5)]
    [InlineData(true, Preallocation.Off, 5)]
    [InlineData(true, Preallocation.Full, 5)]
    public async Task Create_WithDataFile_PointsToGuestOffsets(bool raw, Preallocation preallocation, int tables)
    {
        const int ClusterSize = 16384;
        const int Size = (5 * ClusterSize * 1024) - 512;
        MemoryFile file = new();
        MemoryFile data = new();
        await Qcow2Create.CreateAsync(
            file,
            new Qcow2CreateOptions { Size = Size, ClusterSize = ClusterSize, ExtendedL2 = true, DataFile = "d", DataFileRaw = raw, Preallocation = preallocation },
            data);
        Assert.Equal(Size, data.Length);
        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file);
        Assert.Equal(FeatureBits.ExternalDataFile | FeatureBits.ExtendedL2, header.IncompatibleFeatures);
        Assert.Equal(raw ? FeatureBits.RawExternalData : 0, header.AutoclearFeatures);
        Assert.Equal("d"u8.ToArray(), header.FindExtension(HeaderExtensionType.DataFileName)!.Data.ToArray());
        byte[] image = file.ToArray();
        for (int i = 0; i < header.L1Size * 1024; i++)
        {
            ulong l1 = BinaryPrimitives.ReadUInt64BigEndian(image.AsSpan((int)header.L1TableOffset + (i / 1024 * 8)));
            Assert.Equal(i / 1024 < tables, l1 != 0);
            if (l1 != 0)
            {
                int entry = (int)new L1Entry(l1).TableOffset + (i % 1024 * 16);
                Assert.Equal(0x8000_0000_0000_0000 | ((ulong)i * ClusterSize), BinaryPrimitives.ReadUInt64BigEndian(image.AsSpan(entry)));
                Assert.Equal(0UL, BinaryPrimitives.ReadUInt64BigEndian(image.AsSpan(entry + 8)));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Impossible))]
    public async Task Create_ImpossibleOptions_AreRefusedBeforeAnythingIsWritten(Qcow2CreateOptions options, string words)
    {
        MemoryFile file = new();
        var e = await Assert.ThrowsAsync<ImageFormatException>(async () => await Qcow2Create.CreateAsync(file, options));
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
        Assert.Equal(0, file.Length);
    }

    [Fact]
    public async Task Create_EveryStorageCallFailing_NeverLeavesSomethingThatLooksLikeAnImage()
    {
        var options = new Qcow2CreateOptions { Size = 1 << 20, Preallocation = Preallocation.Full };
        for (int failing = 1; ; failing++)
        {
            MemoryFile inner = new();
            FaultyFile file = new(inner, new FaultPlan { FailFrom = failing });
            try
            {
                await Qcow2Create.CreateAsync(file, options);
                Assert.Equal(0, file.Faults);
                Assert.True(failing > 7);
                return;
            }
            catch (BlockIOException)
            {
                // The last call is the flush after the header: then the image is complete, only not yet safe.
                if (Qcow2HeaderReader.HasMagic(inner.ToArray()))
                {
                    Assert.True((await ConsistencyCheck.RunAsync(inner)).IsClean);
                }
            }
        }
    }
}
