using BlockMount.Base;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Block;

/// <summary>Chains of real files in a folder of their own; every test ends with the proof that nothing stayed open.</summary>
public sealed class ChainOpenerTests : IDisposable
{
    private readonly ScratchFolder _folder = new();
    private readonly CountingOpener _files = new();

    public void Dispose()
    {
        _folder.Dispose();
        Assert.Equal(0, _files.Open);
    }

    [Fact]
    public async Task Open_ThreeImages_ReadThroughToTheBase()
    {
        await File.WriteAllBytesAsync(_folder["base.raw"], Enumerable.Repeat((byte)7, 1 << 16).ToArray());
        await CreateAsync("mid.qcow2", "base.raw", "raw");
        await CreateAsync("top.qcow2", "mid.qcow2", "qcow2");

        await using Node node = await OpenAsync("top.qcow2", new ChainOpenOptions { NodeName = "disk" });
        byte[] bytes = new byte[4096];
        await node.ReadAsync(0, bytes);
        Assert.All(bytes, value => Assert.Equal(7, value));
        Assert.Equal(["disk", "disk-1", "disk-2"], Names(node));
        Assert.False(node.ReadOnly);
        Assert.True(node.Backing!.ReadOnly);
        Assert.True(node.Backing.Backing!.ReadOnly);
        Assert.Equal("raw", node.Backing.Backing.DriverName);
    }

    [Fact]
    public async Task Open_256Images_Works()
    {
        await CreateAsync("0", null, null);
        for (int i = 1; i < 256; i++)
        {
            await CreateAsync($"{i}", $"{i - 1}", "qcow2");
        }

        await using (Node node = await OpenAsync("255", new ChainOpenOptions()))
        {
            await node.ReadAsync(0, new byte[512]);
            Assert.Equal(256, Names(node).Count);
            Assert.Equal(256, _files.Open);
        }

        await CreateAsync("256", "255", "qcow2");
        BlockMountException e = await FailAsync("256", new ChainOpenOptions());
        Assert.Contains("more than 256 images", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("a", "a")]
    [InlineData("b", "./a")]
    [InlineData("link", "link")]
    public async Task Open_Loop_IsRefused(string bottomBacking, string name)
    {
        await CreateAsync("a", bottomBacking, "qcow2");
        await CreateAsync("b", name, "qcow2");
        File.CreateSymbolicLink(_folder["link"], "a");
        BlockMountException e = await FailAsync("a", new ChainOpenOptions());
        Assert.True(e.Message.Contains("the chain is a loop", StringComparison.Ordinal), e.Message);
    }

    [Fact]
    public async Task Open_MissingBase_NamesTheLinkAndNearMatches()
    {
        await CreateAsync("mid.qcow2", "debian-base.raw", "raw");
        await CreateAsync("top.qcow2", "mid.qcow2", "qcow2");
        await File.WriteAllTextAsync(_folder["debian-bose.raw"], "x");
        await File.WriteAllTextAsync(_folder["unrelated"], "x");

        BlockMountException e = await FailAsync("top.qcow2", new ChainOpenOptions());
        Assert.Contains($"Could not open '{_folder["debian-base.raw"]}': No such file", e.Message, StringComparison.Ordinal);
        Assert.Contains($"image 3 of the chain: '{_folder["mid.qcow2"]}' names it as 'debian-base.raw'", e.Message, StringComparison.Ordinal);
        Assert.Contains("debian-bose.raw", e.Hint, StringComparison.Ordinal);
        Assert.DoesNotContain("unrelated", e.Hint, StringComparison.Ordinal);
        Assert.Contains("qemu-img rebase -u -b NEW_PATH -F raw", e.Hint, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Open_BaseIsADirectory_IsRefused()
    {
        Directory.CreateDirectory(_folder["base"]);
        await CreateAsync("top.qcow2", "base", "raw");
        Assert.Contains("a directory", (await FailAsync("top.qcow2", new ChainOpenOptions())).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("json:{\"driver\":\"null-co\"}")]
    [InlineData("nbd://localhost/")]
    [InlineData("/proc/version")]
    [InlineData("/dev/zero")]
    public async Task Open_HostileReference_OpensNothingButTheTop(string reference)
    {
        await CreateAsync("top.qcow2", reference, "raw");
        _files.Paths.Clear();
        await FailAsync("top.qcow2", new ChainOpenOptions { ReadOnly = true });
        Assert.Equal([_folder["top.qcow2"]], _files.Paths);
    }

    [Fact]
    public async Task Open_UnknownTop_IsNeverTakenForRaw()
    {
        await File.WriteAllBytesAsync(_folder["disk"], new byte[4096]);
        BlockMountException e = await FailAsync("disk", new ChainOpenOptions());
        Assert.Contains("-f raw", e.Hint, StringComparison.Ordinal);
        await using Node node = await OpenAsync("disk", new ChainOpenOptions { Format = "raw" });
        Assert.Equal("raw", node.DriverName);
    }

    [Fact]
    public async Task Open_RawWithQcow2Header_StaysRaw()
    {
        await CreateAsync("disk", "json:{}", "raw");
        await using Node node = await OpenAsync("disk", new ChainOpenOptions { Format = "raw" });
        Assert.Equal("raw", node.DriverName);
        Assert.Null(node.Backing);
    }

    [Fact]
    public async Task Open_BackingWithoutFormat_IsProbedButNeverRaw()
    {
        await File.WriteAllBytesAsync(_folder["base.raw"], new byte[4096]);
        await CreateAsync("base.qcow2", null, null);
        await CreateAsync("over-qcow2", "base.qcow2", null);
        await CreateAsync("over-raw", "base.raw", null);

        await using (Node node = await OpenAsync("over-qcow2", new ChainOpenOptions()))
        {
            Assert.Equal("qcow2", node.Backing!.DriverName);
        }

        BlockMountException e = await FailAsync("over-raw", new ChainOpenOptions());
        Assert.Contains("-F raw", e.Hint, StringComparison.Ordinal);
        await using Node raw = await OpenAsync("over-raw", new ChainOpenOptions { BackingFormatDefault = "raw" });
        Assert.Equal("raw", raw.Backing!.DriverName);
    }

    [Theory]
    [InlineData("vmdk", null)]
    [InlineData(null, "vmdk")]
    public async Task Open_UnknownFormatName_IsRefused(string? format, string? backingFormat)
    {
        await File.WriteAllBytesAsync(_folder["base"], new byte[4096]);
        await CreateAsync("top.qcow2", "base", backingFormat ?? "raw");
        Assert.Contains("Unknown file format 'vmdk'", (await FailAsync("top.qcow2", new ChainOpenOptions { Format = format })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Open_DamagedBase_IsRefusedAndTheTopIsUnlocked()
    {
        await File.WriteAllTextAsync(_folder["base.qcow2"], "QFI\u00fbnothing");
        await CreateAsync("top.qcow2", "base.qcow2", "qcow2");
        await FailAsync("top.qcow2", new ChainOpenOptions());
        await using StorageFile file = await PosixStorage.Instance.OpenAsync(_folder["top.qcow2"], new StorageOpenOptions());
    }

    [Fact]
    public async Task Open_SharedBase_IsReadByTwoChainsAndWrittenByNone()
    {
        await CreateAsync("base.qcow2", null, null);
        await CreateAsync("a", "base.qcow2", "qcow2");
        await CreateAsync("b", "base.qcow2", "qcow2");
        await using Node a = await OpenAsync("a", new ChainOpenOptions());
        await using Node b = await OpenAsync("b", new ChainOpenOptions());
        await FailAsync("base.qcow2", new ChainOpenOptions());
        await FailAsync("a", new ChainOpenOptions());
    }

    [Theory]
    [InlineData(FeatureBits.Dirty)]
    [InlineData(FeatureBits.Corrupt)]
    public async Task Open_DirtyBase_IsFineUnderAnOverlay(ulong bit)
    {
        await CreateAsync("base.qcow2", null, null);
        await using (FileStream stream = File.OpenWrite(_folder["base.qcow2"]))
        {
            stream.Position = Qcow2HeaderFields.IncompatibleFeatures + 7;
            stream.WriteByte((byte)bit);
        }

        await CreateAsync("top", "base.qcow2", "qcow2");
        await using Node node = await OpenAsync("top", new ChainOpenOptions());
        await FailAsync("base.qcow2", new ChainOpenOptions());
    }

    [Fact]
    public async Task Open_Qcow2OptionsOfARawImage_IsRefused()
    {
        await File.WriteAllBytesAsync(_folder["disk.raw"], new byte[4096]);
        BlockMountException e = await FailAsync(
            "disk.raw", new ChainOpenOptions { Format = "raw", Qcow2 = new Qcow2RuntimeOptions { L2CacheBytes = 1 << 20 } });
        Assert.Contains("do not apply to raw", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Open_ConflictingCacheSizes_IsRefused()
    {
        await CreateAsync("top", null, null);
        BlockMountException e = await FailAsync("top", new ChainOpenOptions { Qcow2 = new Qcow2RuntimeOptions { CacheBytes = 1, L2CacheBytes = 2 } });
        Assert.Contains("l2-cache-size may not exceed cache-size", e.Message, StringComparison.Ordinal);
        e = await FailAsync("top", new ChainOpenOptions { Qcow2 = new Qcow2RuntimeOptions { L2CacheEntryBytes = 65536 } });
        Assert.Contains("cluster size (4096)", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Open_RuntimeOptions_ReachTheActiveLayerOnly()
    {
        await CreateAsync("base", null, null);
        await CreateAsync("top", "base", "qcow2");
        Qcow2RuntimeOptions asked = new() { LazyRefcounts = true, L2CacheEntryBytes = 512, CacheBytes = 1 << 20, CacheCleanInterval = TimeSpan.FromSeconds(1) };
        await using Node node = await OpenAsync("top", new ChainOpenOptions { Qcow2 = asked });
        await node.WriteAsync(0, new byte[4096]);
        await node.FlushAsync();
        Assert.Equal(1, (await File.ReadAllBytesAsync(_folder["top"]))[79]);
        Assert.Equal(0, (await File.ReadAllBytesAsync(_folder["base"]))[79]);
    }

    private ValueTask<Node> OpenAsync(string name, ChainOpenOptions options) =>
        new ChainOpener(_files, new OpenPolicy()).OpenAsync(_folder[name], options);

    private async Task<BlockMountException> FailAsync(string name, ChainOpenOptions options)
    {
        int before = _files.Open;
        var e = await Assert.ThrowsAnyAsync<BlockMountException>(async () => await OpenAsync(name, options));
        Assert.Equal(before, _files.Open);
        return e;
    }

    private async Task CreateAsync(string name, string? backing, string? format)
    {
        await using StorageFile file = await PosixStorage.Instance.CreateAsync(_folder[name], new StorageCreateOptions { Overwrite = true });
        await Qcow2Create.CreateAsync(file, new Qcow2CreateOptions
        {
            Size = 1 << 16,
            ClusterSize = 4096,
            Backing = backing is null ? null : new BackingReference(backing, format),
        });
    }

    private static List<string> Names(Node top)
    {
        List<string> names = [];
        for (Node? node = top; node is not null; node = node.Backing)
        {
            names.Add(node.Name);
        }

        return names;
    }

    /// <summary>The real storage, with a list of what was opened and a count of what still is.</summary>
    private sealed class CountingOpener : IStorageOpener
    {
        private readonly List<CountedFile> _opened = [];

        public List<string> Paths { get; } = [];

        public int Open => _opened.Count(file => !file.Closed);

        public async ValueTask<StorageFile> OpenAsync(string path, StorageOpenOptions options)
        {
            Paths.Add(path);
            CountedFile file = new(await PosixStorage.Instance.OpenAsync(path, options));
            _opened.Add(file);
            return file;
        }
    }

    private sealed class CountedFile(StorageFile inner) : StorageFile
    {
        public bool Closed { get; private set; }

        public override string Name => inner.Name;

        public override bool ReadOnly => inner.ReadOnly;

        public override long Length => inner.Length;

        public override long AllocatedBytes => inner.AllocatedBytes;

        public override ValueTask FlushAsync() => inner.FlushAsync();

        public override ValueTask ResizeAsync(long length) => inner.ResizeAsync(length);

        public override ValueTask<FileExtent> MapAsync(long offset, long length) => inner.MapAsync(offset, length);

        public override ValueTask DisposeAsync()
        {
            Assert.False(Closed);
            Closed = true;
            return inner.DisposeAsync();
        }

        protected override ValueTask ReadCoreAsync(long offset, Memory<byte> buffer) => inner.ReadAsync(offset, buffer);

        protected override ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer) => inner.WriteAsync(offset, buffer);

        protected override ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap) => inner.WriteZeroesAsync(offset, length, mayUnmap);

        protected override ValueTask<bool> PunchHoleCoreAsync(long offset, long length) => inner.PunchHoleAsync(offset, length);
    }
}
