using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.Amend;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Crash;
using BlockMount.TestSupport.Faults;
using BlockMount.TestSupport.Images;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Formats.Qcow2.Amend;

/// <summary>Power cuts and storage errors at every call of an amendment: the image is not corrupt and reads the same.</summary>
public sealed class AmendCrashTests(ITestOutputHelper output)
{
    public static TheoryData<string, int, bool> Cases
    {
        get
        {
            TheoryData<string, int, bool> cases = [];
            foreach (string change in new[] { "up", "down", "refcount_bits=1", "refcount_bits=4", "refcount_bits=64", "lazy_refcounts" })
            {
                cases.Add(change, 9, false);
                cases.Add(change, 9, true);
                cases.Add(change, 12, true);
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task PowerCut_AnywhereInAnAmendment_LeavesAnImageThatReadsTheSame(string change, int clusterBits, bool backing)
    {
        (TestChain chain, byte[] initial, byte[] content) = await PrepareAsync(change, clusterBits, backing);
        StorageLog log = new();
        MemoryFile memory = new("top", readOnly: false, initial);
        await AmendAsync(new RecordingFile(memory, log), change);
        await AssertSoundAsync(chain, memory, content, change, mayLeak: false);
        int states = 0;
        foreach ((CrashImage image, string description) in CrashStates.Of(log, initial, seed: clusterBits))
        {
            states++;
            await AssertSoundAsync(chain, image.ToFile(), content, description, mayLeak: change == "down");
        }

        output.WriteLine($"{states} states");
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Amend_EveryCallFails_LeavesAnImageThatReadsTheSame(string change, int clusterBits, bool backing)
    {
        (TestChain chain, byte[] initial, byte[] content) = await PrepareAsync(change, clusterBits, backing);
        for (int call = 1; ; call++)
        {
            MemoryFile memory = new("top", readOnly: false, initial);
            FaultyFile faulty = new(memory.Reopen(), new FaultPlan { FailFrom = call, ShortTransfer = call % 2 == 0 });
            bool failed = false;
            try
            {
                await AmendAsync(faulty, change);
            }
            catch (BlockIOException)
            {
                failed = true;
            }

            await AssertSoundAsync(chain, memory, content, $"{change}, call {call}", mayLeak: true);
            if (!failed)
            {
                AssertDone(await Qcow2HeaderReader.LoadAsync(memory), change);
                if (faulty.Faults == 0)
                {
                    break;
                }
            }
        }
    }

    // Tables that snapshots share with the disk, and clusters whose refcounts are above one.
    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData("down")]
    [InlineData("refcount_bits=2")]
    [InlineData("refcount_bits=64")]
    public async Task PowerCut_OnAnImageWithSnapshots_KeepsThem(string change)
    {
        using ScratchFolder folder = new();
        string path = folder["image"];
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", path, "96k");
        await QemuImg.IoAsync(path, "write -P 1 0 20k", "write -z 30k 8k", "write -P 2 60k 8k", "write -z 60k 3k", "write -z -u 64k 2k");
        await QemuImg.RunAsync("snapshot", "-c", "first", path);
        await QemuImg.IoAsync(path, "write -P 3 10k 4k", "write -z 61k 5k", "write -z 2k 2k", "write -P 4 31k 1k");
        byte[] content = await QemuImg.ReadGuestAsync(path, folder["guest"]);
        byte[] first = await ReadSnapshotAsync(folder, path);
        MemoryFile file = await QemuImg.LoadAsync(path);
        byte[] initial = file.ToArray();
        TestChain chain = TestChain.Of(file, new ImageGeometry { Size = 96 << 10 }, content);
        StorageLog log = new();
        await AmendAsync(new RecordingFile(file.Reopen(), log), change);
        int states = 0;
        foreach ((CrashImage image, string description) in CrashStates.Of(log, initial, seed: 7))
        {
            if (states++ % 40 == 0)
            {
                await QemuImg.SaveAsync(folder["later"], image.Bytes.AsMemory(0, (int)image.Length));
                QemuImg.Verdict verdict = await QemuImg.CheckAsync(folder["later"]);
                Assert.True(verdict.IsUsable, $"{verdict.Text}\n{description}");
                Assert.Equal(first, await ReadSnapshotAsync(folder, folder["later"]));
            }

            await AssertSoundAsync(chain, image.ToFile(), content, description, mayLeak: change == "down");
        }

        output.WriteLine($"{states} states");
        await QemuImg.SaveAsync(folder["later"], file.ToArray());
        Assert.Equal(0, (await QemuImg.CheckAsync(folder["later"])).ExitCode);
        Assert.Equal(first, await ReadSnapshotAsync(folder, folder["later"]));
        // Going back to it writes to all of its tables' clusters' refcounts.
        await QemuImg.RunAsync("snapshot", "-a", "first", folder["later"]);
        Assert.Equal(first, await QemuImg.ReadGuestAsync(folder["later"], folder["guest"]));
        Assert.Equal(0, (await QemuImg.CheckAsync(folder["later"])).ExitCode);
    }

    // A lazy writer that died left refcounts behind the tables.
    [Fact]
    public async Task Amend_DirtyImage_IsRepairedFirst()
    {
        (TestChain chain, byte[] initial, byte[] content) = await PrepareAsync("refcount_bits=64", 9, backing: false);
        MemoryFile file = new("top", readOnly: false, initial);
        await file.WriteAsync(Qcow2HeaderFields.IncompatibleFeatures + 7, new byte[] { 1 });
        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file);
        byte[] entry = new byte[8];
        await file.ReadAsync(header.RefcountTableOffset, entry);
        long block = System.Buffers.Binary.BinaryPrimitives.ReadInt64BigEndian(entry);
        await file.WriteAsync(block + 40, new byte[40]);
        Assert.NotEqual(0, (await ConsistencyCheck.RunAsync(file)).Corruptions);
        await Qcow2Amend.ApplyAsync(file, new AmendOptions { RefcountBits = 64, LazyRefcounts = false });
        Assert.Equal(0UL, (await Qcow2HeaderReader.LoadAsync(file)).IncompatibleFeatures);
        await AssertSoundAsync(chain, file, content, "repaired and amended", mayLeak: false);
    }

    [Fact]
    public async Task RefcountWidth_TooNarrow_IsRefusedBeforeAnythingIsWritten()
    {
        MemoryFile file = new("top", readOnly: false, EmptyImage.Create(new ImageGeometry { Size = 64 << 10 }));
        // The refcount of the header's cluster, in the only block.
        await file.WriteAsync(2 * 512, new byte[] { 1, 0 });
        byte[] before = file.ToArray();
        ImageFormatException error = await Assert.ThrowsAsync<ImageFormatException>(
            async () => await Qcow2Amend.ApplyAsync(file, new AmendOptions { RefcountBits = 8, LazyRefcounts = true }));
        Assert.Contains("Cluster at offset 0x0 has a refcount of 256", error.Message, StringComparison.Ordinal);
        Assert.Equal(before, file.ToArray());
    }

    private static async Task<byte[]> ReadSnapshotAsync(ScratchFolder folder, string path)
    {
        await QemuImg.RunAsync("convert", "-f", "qcow2", "-l", "snapshot.name=first", "-O", "raw", path, folder["guest"]);
        return await File.ReadAllBytesAsync(folder["guest"]);
    }

    private static async ValueTask AmendAsync(StorageFile file, string change)
    {
        if (change == "down")
        {
            await Qcow2Amend.DowngradeAsync(file);
            return;
        }

        await Qcow2Amend.ApplyAsync(file, change switch
        {
            "up" => new AmendOptions { Version = 3, LazyRefcounts = true },
            "lazy_refcounts" => new AmendOptions { LazyRefcounts = true },
            _ => new AmendOptions { RefcountBits = long.Parse(change.Split('=')[1], System.Globalization.CultureInfo.InvariantCulture) },
        });
    }

    private static void AssertDone(Qcow2Header header, string change)
    {
        Assert.Equal(change == "down" ? 2 : 3, header.Version);
        if (change.StartsWith("refcount_bits=", StringComparison.Ordinal))
        {
            Assert.Equal(change, $"refcount_bits={1 << header.RefcountOrder}");
        }
    }

    // Data, zeros with and without a cluster, holes; cleanly closed.
    private static async Task<(TestChain Chain, byte[] Initial, byte[] Content)> PrepareAsync(string change, int clusterBits, bool backing)
    {
        ImageGeometry geometry = new()
        {
            ClusterBits = clusterBits,
            Version = change == "up" ? 2 : 3,
            Size = 160 << 10,
            Backing = backing ? BackingKind.Raw : BackingKind.None,
            Depth = backing ? 2 : 1,
            BackingSize = backing ? 128 << 10 : 0,
        };
        TestChain chain = await TestChain.CreateAsync(geometry, seed: 3);
        BlockDevice device = await chain.OpenAsync(chain.Top.Reopen());
        byte[] noise = new byte[20000];
        new Random(4).NextBytes(noise);
        await device.WriteAsync(1000, noise);
        await device.WriteAsync(100_000, noise);
        await device.ZeroAsync(8192, 4096, ZeroFlags.None);
        await device.ZeroAsync(102_400, 8192, ZeroFlags.MayUnmap);
        await device.ZeroAsync(65536, 8192, ZeroFlags.MayUnmap);
        byte[] content = new byte[device.Size];
        await device.ReadAsync(0, content);
        await device.DisposeAsync();
        return (chain, chain.Top.ToArray(), content);
    }

    private static async Task AssertSoundAsync(TestChain chain, MemoryFile file, byte[] content, string description, bool mayLeak)
    {
        CheckReport report = await ConsistencyCheck.RunAsync(file);
        Assert.True(report.Corruptions == 0 && (mayLeak || report.Leaks == 0), $"{report}\n{description}");
        BlockDevice device = await chain.OpenAsync(file.Reopen());
        byte[] read = new byte[device.Size];
        await device.ReadAsync(0, read);
        // And it can be written to.
        await device.WriteAsync(50_000, new byte[] { 1, 2, 3 });
        await device.DisposeAsync();
        Assert.True(read.AsSpan().SequenceEqual(content), $"another byte at {read.AsSpan().CommonPrefixLength(content)}\n{description}");
        report = await ConsistencyCheck.RunAsync(file);
        Assert.True(report.Corruptions == 0, $"after a write: {report}\n{description}");
    }
}
