using BlockMount.Base;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Storage;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using Xunit;

namespace BlockMount.Tests.Block;

/// <summary>Which file becomes an image's data file: what the image names under the policy, or what the user names (RELIABILITY S6, S7).</summary>
public sealed class DataFileOpeningTests : IDisposable
{
    private static readonly ImageGeometry s_geometry = new() { ClusterBits = 12, Size = 64 << 10, DataFile = DataFileKind.Plain };

    private readonly ScratchFolder _folder = new();
    private readonly NotingOpener _files = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task NamedByTheImage_IsFoundBesideIt_AndHoldsTheData()
    {
        await MakeAsync("top", "data.raw");
        await using (Node node = await OpenAsync("top"))
        {
            await node.WriteAsync(12288, new byte[] { 1, 2, 3, 4 });
            await node.FlushAsync();
        }

        Assert.Equal([1, 2, 3, 4], (await File.ReadAllBytesAsync(_folder["data.raw"]))[12288..12292]);
        await using Node again = await OpenAsync("top", new ChainOpenOptions { ReadOnly = true });
        byte[] read = new byte[4];
        await again.ReadAsync(12288, read);
        Assert.Equal([1, 2, 3, 4], read);
        Assert.All(_files.Opened, opened => Assert.Equal(opened.Order > 2, opened.Options.ReadOnly));
    }

    [Fact]
    public async Task DataFileShorterThanTheDisk_ReadsAsZerosBehindItsEnd()
    {
        ImageGeometry raw = s_geometry with { DataFile = DataFileKind.Raw };
        await File.WriteAllBytesAsync(_folder["top"], EmptyImage.Create(raw, dataFileName: "data.raw"));
        await File.WriteAllBytesAsync(_folder["data.raw"], [9, 9, 9]);
        await using Node node = await OpenAsync("top");
        byte[] read = new byte[8192];
        await node.ReadAsync(0, read);
        Assert.Equal([9, 9, 9, 0], read[..4]);
        Assert.All(read[4..], value => Assert.Equal(0, value));
    }

    [Theory]
    [InlineData("nbd://localhost/x")]
    [InlineData("json:{\"driver\":\"null-co\"}")]
    [InlineData("/dev/zero")]
    [InlineData("/proc/self/mem")]
    [InlineData("fifo")]
    [InlineData(".")]
    [InlineData("")]
    [InlineData("a\nb")]
    [InlineData("missing")]
    // The image itself, under another spelling.
    [InlineData("./top")]
    public async Task HostileName_OpensNothingButTheImage(string name)
    {
        await MakeAsync("top", name, makeData: false);
        (await ToolProcess.RunAsync(TimeSpan.FromSeconds(10), "mkfifo", _folder["fifo"])).MustSucceed();
        var e = await Assert.ThrowsAnyAsync<BlockMountException>(async () => await OpenAsync("top"));
        Assert.Contains(_folder["top"], e.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(e.Message, char.IsControl);
        Assert.Equal([_folder["top"]], _files.Opened.Select(opened => opened.Path));
        await AssertNothingIsLockedAsync();
    }

    [Fact]
    public async Task BackingFileThatIsTheDataFile_IsRefused()
    {
        await File.WriteAllBytesAsync(_folder["data.raw"], new byte[4096]);
        await File.WriteAllBytesAsync(_folder["top"], EmptyImage.Create(s_geometry, "data.raw", "raw", "data.raw"));
        await Assert.ThrowsAnyAsync<BlockMountException>(async () => await OpenAsync("top"));
        await AssertNothingIsLockedAsync();
    }

    [Fact]
    public async Task DataFileOfABackingImage_IsOpenedReadOnly()
    {
        await MakeAsync("base", "data.raw");
        await File.WriteAllBytesAsync(_folder["top"], EmptyImage.Create(s_geometry with { DataFile = DataFileKind.None }, "base", "qcow2"));
        await using Node node = await OpenAsync("top");
        Assert.Equal(
            [(_folder["top"], false), (_folder["base"], true), (_folder["data.raw"], true)],
            _files.Opened.Select(opened => (opened.Path, opened.Options.ReadOnly)));
    }

    [Fact]
    public async Task NamedByTheUser_WinsOverTheImage_AndIsNotSubjectToThePolicy()
    {
        await MakeAsync("top", "nbd://localhost/x", makeData: false);
        await File.WriteAllBytesAsync(_folder["chosen"], [7, 7]);
        OpenPolicy strict = new() { AllowReferences = false };
        await using Node node = await new ChainOpener(_files, strict).OpenAsync(_folder["top"], new ChainOpenOptions { DataFile = _folder["chosen"] });
        Assert.Equal([_folder["top"], _folder["chosen"]], _files.Opened.Select(opened => opened.Path));
    }

    [Fact]
    public async Task NamedByTheUser_TheImageItself_IsRefused()
    {
        await MakeAsync("top", "data.raw");
        await Assert.ThrowsAnyAsync<BlockMountException>(async () => await OpenAsync("top", new ChainOpenOptions { DataFile = _folder["top"] }));
        await AssertNothingIsLockedAsync();
    }

    [Fact]
    public async Task NamedByTheUser_ForAnImageWithoutDataFile_IsRefused()
    {
        await File.WriteAllBytesAsync(_folder["top"], EmptyImage.Create(s_geometry with { DataFile = DataFileKind.None }));
        await File.WriteAllBytesAsync(_folder["data.raw"], new byte[4096]);
        var e = await Assert.ThrowsAnyAsync<BlockMountException>(
            async () => await OpenAsync("top", new ChainOpenOptions { DataFile = _folder["data.raw"] }));
        Assert.Contains("keeps its data itself", e.Message, StringComparison.Ordinal);
        await AssertNothingIsLockedAsync();
    }

    [Fact]
    public async Task NamedByNobody_SaysHowToNameIt()
    {
        byte[] image = EmptyImage.Create(s_geometry);
        // Where the name's extension begins; unknown ones are skipped.
        image[104] = 0x7f;
        await File.WriteAllBytesAsync(_folder["top"], image);
        var e = await Assert.ThrowsAnyAsync<BlockMountException>(async () => await OpenAsync("top"));
        Assert.Contains("-o data_file=", e.Hint, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Inspection_DoesNotOpenIt()
    {
        await MakeAsync("top", "data.raw");
        await using BackingChain chain = new(_files, new OpenPolicy(), new ChainOpenOptions { ReadOnly = true });
        await chain.OpenTopAsync(_folder["top"]);
        Assert.False(await chain.OpenNextAsync());
        ImageInfo info = await ImageInfo.LoadAsync(chain.Links[0].File, _folder["top"], "qcow2");
        Assert.Equal("data.raw", info.Header!.DataFileName);
        Assert.Equal([_folder["top"]], _files.Opened.Select(opened => opened.Path));
    }

    // Two writers of one data file through two images would destroy each other's data: it is locked as the image is.
    [Fact]
    public async Task DataFile_IsLockedLikeTheImage()
    {
        await MakeAsync("top", "data.raw");
        await MakeAsync("other", "data.raw");
        await using Node node = await OpenAsync("top");
        var e = await Assert.ThrowsAnyAsync<BlockMountException>(async () => await OpenAsync("other"));
        Assert.Contains(_folder["data.raw"], e.Message, StringComparison.Ordinal);
    }

    private ValueTask<Node> OpenAsync(string name, ChainOpenOptions? options = null) =>
        new ChainOpener(_files, new OpenPolicy()).OpenAsync(_folder[name], options ?? new ChainOpenOptions());

    private async Task MakeAsync(string name, string dataFileName, bool makeData = true)
    {
        await File.WriteAllBytesAsync(_folder[name], EmptyImage.Create(s_geometry, dataFileName: dataFileName));
        if (makeData)
        {
            await File.WriteAllBytesAsync(_folder[dataFileName], []);
        }
    }

    // A file that was left open would still hold its locks.
    private async Task AssertNothingIsLockedAsync()
    {
        foreach (string path in _files.Opened.Select(opened => opened.Path).Distinct())
        {
            await using StorageFile file = await PosixStorage.Instance.OpenAsync(path, new StorageOpenOptions());
        }
    }

    /// <summary>The real storage, with a list of what was opened.</summary>
    private sealed class NotingOpener : IStorageOpener
    {
        public List<(int Order, string Path, StorageOpenOptions Options)> Opened { get; } = [];

        public async ValueTask<StorageFile> OpenAsync(string path, StorageOpenOptions options)
        {
            StorageFile file = await PosixStorage.Instance.OpenAsync(path, options);
            Opened.Add((Opened.Count + 1, path, options));
            return file;
        }
    }
}
