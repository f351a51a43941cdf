using System.Text;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Crash;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Formats.Qcow2;

/// <summary>Headers that change in place, with a power cut at every write: each state reads as the old or the new header.</summary>
public sealed class HeaderRewriteTests(ITestOutputHelper output)
{
    private const uint UnknownType = 0x99887766;
    private const int Runs = 300;

    [Fact]
    public async Task Rewrite_PowerCutAnywhere_LeavesTheOldOrTheNewHeader()
    {
        int states = 0;
        int bridged = 0;
        int refused = 0;
        foreach (int seed in TestBudget.Seeds(1, Runs))
        {
            Random random = new(seed);
            Qcow2Header old = Random(random, random.Next(9, 15));
            Qcow2Header wanted = random.Next(3) == 0 ? Random(random, old.ClusterBits) : Slightly(old, random);
            byte[] initial;
            try
            {
                initial = Image(old);
            }
            catch (ImageFormatException)
            {
                continue;
            }

            StorageLog log = new();
            MemoryFile memory = new("top", readOnly: false, initial);
            string before = Describe(await Qcow2HeaderReader.LoadAsync(new MemoryFile("old", readOnly: true, initial)));
            string after;
            try
            {
                after = Describe(await RewriteAsync(new RecordingFile(memory, log), wanted));
            }
            catch (ImageFormatException)
            {
                Assert.Equal(initial, memory.ToArray());
                refused++;
                continue;
            }

            Assert.Equal(after, Describe(await Qcow2HeaderReader.LoadAsync(memory)));
            bridged += log.Entries.Count(entry => entry.Kind == StorageCalls.Flush) > 2 ? 1 : 0;
            foreach ((CrashImage image, string description) in CrashStates.Of(log, initial, seed))
            {
                states++;
                string left = Describe(await Qcow2HeaderReader.LoadAsync(image.ToFile()));
                Assert.True(left == before || left == after, $"{left}\nis neither\n{before}\nnor\n{after}\n{description}\n{TestBudget.Replay(seed, nameof(HeaderRewriteTests))}");
            }
        }

        output.WriteLine($"{states} states, {bridged} rewritings in two stages, {refused} refused");
        Assert.True(bridged > 0 || TestBudget.Seed is not null);
    }

    // What a cut left behind, a gap included, is a good start for the next rewriting.
    [Fact]
    public async Task Rewrite_AfterAPowerCutDuringAnother_GivesTheWantedHeader()
    {
        foreach (int seed in TestBudget.Seeds(1000, 60))
        {
            Random random = new(seed);
            Qcow2Header old = Random(random, 13);
            byte[] initial = Image(old);
            StorageLog log = new();
            await RewriteAsync(new RecordingFile(new MemoryFile("top", readOnly: false, initial), log), Random(random, 13));
            Qcow2Header last = Slightly(Random(random, 13), random);
            foreach ((CrashImage image, string description) in CrashStates.Of(log, initial, seed))
            {
                MemoryFile left = image.ToFile();
                string expected = Describe(await RewriteAsync(left, last));
                Qcow2Header read = await Qcow2HeaderReader.LoadAsync(left);
                Assert.True(expected == Describe(read), description);
                byte[]? names = last.Version == 2 ? null : FeatureNameTable.Create().Data.ToArray();
                Assert.Equal(names, read.FindExtension(HeaderExtensionType.FeatureNameTable)?.Data.ToArray());
            }
        }
    }

    [Fact]
    public async Task Rewrite_HeaderThatDoesNotFit_ChangesNothing()
    {
        Qcow2Header header = HeaderSamples.Header with { ClusterBits = 9, L1TableOffset = 1024, RefcountTableOffset = 512, Size = 512, L1Size = 1, Extensions = [] };
        byte[] initial = Image(header);
        MemoryFile file = new("top", readOnly: false, initial);
        await Assert.ThrowsAsync<ImageFormatException>(
            async () => await RewriteAsync(file, header with { Backing = new BackingReference(new string('b', 500), "raw") }));
        Assert.Equal(initial, file.ToArray());
        await Assert.ThrowsAsync<ImageFormatException>(
            async () => await RewriteAsync(file, header with { Backing = new BackingReference("b", new string('f', 16)) }));
        Assert.Equal(initial, file.ToArray());
    }

    [Fact]
    public async Task Rewrite_UnknownParts_AreKept()
    {
        Qcow2Header old = HeaderSamples.Header with
        {
            CompatibleFeatures = 1UL << 40,
            UnknownHeaderBytes = new byte[] { 1, 2, 3, 4, 5, 6, 7, 8 },
            Extensions = [new HeaderExtension(UnknownType, new byte[] { 9, 8, 7 }), FeatureNameTable.Create(), new HeaderExtension(UnknownType, new byte[300])],
        };
        MemoryFile file = new("top", readOnly: false, Image(old));
        await HeaderRewriter.RewriteAsync(file, Order(file), header => header with { Backing = new BackingReference("base", "raw") });
        Qcow2Header read = await Qcow2HeaderReader.LoadAsync(file);
        Assert.Equal(Describe(old with { Backing = new BackingReference("base", "raw") }), Describe(read));
    }

    // Storage errors instead of a power cut: the file holds the old or the new header, and nothing is written back any more.
    [Fact]
    public async Task Rewrite_EveryCallFails_LeavesTheOldOrTheNewHeader()
    {
        Random random = new(5);
        for (int i = 0; i < 20; i++)
        {
            Qcow2Header old = Random(random, 12);
            Qcow2Header wanted = Slightly(old, random);
            for (int call = 1; ; call++)
            {
                MemoryFile memory = new("top", readOnly: false, Image(old));
                TestSupport.Faults.FaultyFile file = new(memory, new TestSupport.Faults.FaultPlan { FailFrom = call, ShortTransfer = call % 2 == 0 });
                WriteBackOrder order = Order(file);
                bool failed = await FailsAsync(async () => await HeaderRewriter.RewriteAsync(file, order, _ => wanted));
                string left = Describe(await Qcow2HeaderReader.LoadAsync(memory.Reopen(readOnly: true)));
                Assert.True(left == Describe(old) || left == Describe(HeaderRewriter.Normalise(wanted)), left);
                if (!failed)
                {
                    Assert.Equal(Describe(HeaderRewriter.Normalise(wanted)), left);
                    break;
                }
            }
        }
    }

    private static async Task<bool> FailsAsync(Func<Task> action)
    {
        try
        {
            await action();
            return false;
        }
        catch (BlockMount.Base.BlockIOException)
        {
            return true;
        }
    }

    private static async Task<Qcow2Header> RewriteAsync(BlockMount.Storage.StorageFile file, Qcow2Header wanted) =>
        await HeaderRewriter.RewriteAsync(file, Order(file), _ => wanted);

    private static WriteBackOrder Order(BlockMount.Storage.StorageFile file)
    {
        ImageHealth health = new(file, readOnly: false, features: null, notify: null);
        OverlapChecks checks = new(new Geometry(HeaderSamples.Header), health, new MetadataMap(), MetadataKinds.None);
        return new WriteBackOrder(file, new MetadataCache(file, 512, 2), new MetadataCache(file, 512, 2), checks);
    }

    private static Qcow2Header Random(Random random, int clusterBits)
    {
        int version = random.Next(5) == 0 ? 2 : 3;
        List<HeaderExtension> extensions = [];
        for (int i = random.Next(4); i > 0; i--)
        {
            byte[] data = new byte[random.Next(random.Next(2) == 0 ? 40 : 600)];
            random.NextBytes(data);
            extensions.Add(new HeaderExtension(UnknownType + (uint)i, data));
        }

        if (version == 3 && random.Next(4) != 0)
        {
            extensions.Insert(random.Next(extensions.Count + 1), FeatureNameTable.Create());
        }

        bool bitmaps = version == 3 && random.Next(2) == 0;
        if (bitmaps)
        {
            extensions.Insert(random.Next(extensions.Count + 1), new HeaderExtension(HeaderExtensionType.Bitmaps, new byte[24]));
        }

        int clusterSize = 1 << clusterBits;
        return new Qcow2Header
        {
            Version = version,
            ClusterBits = clusterBits,
            Size = 512 * random.Next(1, 4),
            L1Size = 1,
            L1TableOffset = clusterSize,
            RefcountTableOffset = 2 * clusterSize,
            RefcountTableClusters = 1,
            CompatibleFeatures = version == 3 ? 1UL << random.Next(64) : 0,
            AutoclearFeatures = bitmaps ? FeatureBits.Bitmaps : 0,
            UnknownHeaderBytes = version == 3 && random.Next(4) == 0 ? new byte[16] : default(ReadOnlyMemory<byte>),
            Backing = random.Next(3) == 0 ? null : new BackingReference(Text(random, random.Next(4) == 0 ? 1000 : 60), random.Next(2) == 0 ? "raw" : null),
            Extensions = extensions,
        };
    }

    private static Qcow2Header Slightly(Qcow2Header header, Random random) => random.Next(5) switch
    {
        0 => header with { Backing = null },
        1 => header with { Backing = new BackingReference(Text(random, 80), "qcow2") },
        2 when header.Version == 3 => header.WithExtension(HeaderExtensionType.Bitmaps, new byte[24]) with { AutoclearFeatures = FeatureBits.Bitmaps },
        3 => header.WithExtension(HeaderExtensionType.DataFileName, Encoding.ASCII.GetBytes(Text(random, 200))),
        _ => header.WithExtension(HeaderExtensionType.Bitmaps, null) with { Version = 3, AutoclearFeatures = 0, CompatibleFeatures = 1 },
    };

    private static string Text(Random random, int lengthMax) =>
        string.Concat(Enumerable.Range(0, random.Next(1, lengthMax + 1)).Select(_ => (char)random.Next('a', 'z')));

    private static byte[] Image(Qcow2Header header)
    {
        byte[] image = new byte[header.ClusterSize * 4];
        Qcow2HeaderWriter.Write(header).CopyTo(image, 0);
        return image;
    }

    // Everything that counts, without the names of features. A version 3 header of 104 bytes may become one of 112.
    private static string Describe(Qcow2Header header)
    {
        IEnumerable<string> extensions = header.Extensions
            .Where(extension => extension.Type != HeaderExtensionType.FeatureNameTable)
            .OrderBy(extension => extension.Type)
            .Select(extension => $"{extension.Type:x}={Convert.ToHexString(extension.Data.Span)}");
        return $"v{header.Version} {header.Size} {header.L1Size}@{header.L1TableOffset} {header.RefcountTableClusters}@{header.RefcountTableOffset} "
            + $"{header.IncompatibleFeatures:x} {header.CompatibleFeatures:x} {header.AutoclearFeatures:x} {header.RefcountOrder} {header.CompressionType} "
            + $"{Convert.ToHexString(header.UnknownHeaderBytes.Span)} {header.Backing} {string.Join(' ', extensions)}";
    }
}
