using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Exports.Nbd;
using BlockMount.Formats.Raw;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace BlockMount.Interop.Nbd;

/// <summary>The server in this process, serving a raw file of the host, against the clients that people use.</summary>
public sealed class NbdInteropTests : IAsyncLifetime, IDisposable
{
    private const int Size = 16 << 20;

    private readonly ScratchFolder _folder = new();
    private readonly byte[] _content = new byte[Size];
    private BlockDevice? _device;
    private NbdServer? _server;
    private NbdExport? _export;

    private string Uri => _export!.Address;

    public async Task InitializeAsync()
    {
        // Data, a hole, data: something for block status to tell.
        new Random(3).NextBytes(_content);
        _content.AsSpan(4 << 20, 4 << 20).Clear();
        await using (FileStream file = new(_folder["disk.raw"], FileMode.CreateNew))
        {
            await file.WriteAsync(_content.AsMemory(0, 4 << 20));
            file.Position = 8 << 20;
            await file.WriteAsync(_content.AsMemory(8 << 20));
        }

        StorageFile storage = await PosixStorage.Instance.OpenAsync(_folder["disk.raw"], RunOptions.Storage);
        _device = new BlockDevice("drive0", new FormatNode("node0", "disk.raw", new RawDriver(storage), backing: null), readOnly: false);
        _server = await NbdServer.StartAsync(
            new NbdServerOptions { EndPoint = new UnixDomainSocketEndPoint(_folder["n b&d.sock"]) }, NullLogger.Instance);
        _export = _server.AddExport("a disk/1", _device, writable: true, description: "for tests");
    }

    public async Task DisposeAsync()
    {
        if (_server is not null)
        {
            await _server.DisposeAsync();
        }

        if (_device is not null)
        {
            await _device.DisposeAsync();
        }
    }

    public void Dispose() => _folder.Dispose();

    [RequiresToolFact("nbdinfo")]
    public async Task Nbdinfo_Json_ShowsWhatTheServerOffers()
    {
        ToolResult result = (await ToolProcess.RunAsync("nbdinfo", "--json", Uri)).MustSucceed();
        using JsonDocument json = JsonDocument.Parse(result.Output);
        Assert.Equal("newstyle-fixed", json.RootElement.GetProperty("protocol").GetString());
        Assert.True(json.RootElement.GetProperty("structured").GetBoolean());
        JsonElement export = json.RootElement.GetProperty("exports")[0];
        Assert.Equal("a disk/1", export.GetProperty("export-name").GetString());
        Assert.Equal("for tests", export.GetProperty("description").GetString());
        Assert.Equal(Size, export.GetProperty("export-size").GetInt64());
        Assert.Equal("base:allocation", export.GetProperty("contexts")[0].GetString());
        foreach (string ability in new[] { "can_cache", "can_df", "can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero" })
        {
            Assert.True(export.GetProperty(ability).GetBoolean(), ability);
        }

        Assert.False(export.GetProperty("is_read_only").GetBoolean());
    }

    [RequiresToolFact("nbdinfo")]
    public async Task Nbdinfo_Map_ShowsTheHole()
    {
        ToolResult result = (await ToolProcess.RunAsync("nbdinfo", "--map", "--json", Uri)).MustSucceed();
        using JsonDocument json = JsonDocument.Parse(result.Output);
        Assert.Equal(
            [(0L, 4L << 20, 0), (4L << 20, 4L << 20, 3), (8L << 20, 8L << 20, 0)],
            json.RootElement.EnumerateArray().Select(extent =>
                (extent.GetProperty("offset").GetInt64(), extent.GetProperty("length").GetInt64(), extent.GetProperty("type").GetInt32())));
    }

    [RequiresToolFact("nbdinfo")]
    public async Task Nbdinfo_List_ShowsEveryExport()
    {
        await using NbdExport second = _server!.AddExport("second", _device!, writable: false);
        ToolResult result = (await ToolProcess.RunAsync("nbdinfo", "--list", "--json", _server.UriFor(""))).MustSucceed();
        using JsonDocument json = JsonDocument.Parse(result.Output);
        Assert.Equal(
            [("a disk/1", false), ("second", true)],
            json.RootElement.GetProperty("exports").EnumerateArray().Select(export =>
                (export.GetProperty("export-name").GetString()!, export.GetProperty("is_read_only").GetBoolean())));
    }

    [RequiresToolFact("nbdcopy")]
    public async Task Nbdcopy_OutAndInWithFourConnections_KeepsEveryByte()
    {
        (await ToolProcess.RunAsync("nbdcopy", "--connections=4", Uri, _folder["out.raw"])).MustSucceed();
        await AssertFileIsAsync("out.raw", _content);

        byte[] other = new byte[Size];
        new Random(4).NextBytes(other);
        other.AsSpan(1 << 20, 2 << 20).Clear();
        await File.WriteAllBytesAsync(_folder["in.raw"], other);
        (await ToolProcess.RunAsync("nbdcopy", "--flush", "--connections=4", _folder["in.raw"], Uri)).MustSucceed();
        await AssertFileIsAsync("disk.raw", other);
    }

    [RequiresToolFact("nbdcopy")]
    public async Task Nbdcopy_Synchronous_KeepsEveryByte()
    {
        (await ToolProcess.RunAsync("nbdcopy", "--synchronous", "--request-size=4194304", Uri, _folder["out.raw"])).MustSucceed();
        await AssertFileIsAsync("out.raw", _content);
    }

    [RequiresToolFact("qemu-img")]
    public async Task QemuImg_ConvertAndCompareOverUnixAndTcp_Agree()
    {
        await using NbdServer tcp = await NbdServer.StartAsync(
            new NbdServerOptions { EndPoint = new IPEndPoint(IPAddress.Loopback, 0) }, NullLogger.Instance);
        await using NbdExport export = tcp.AddExport("disk", _device!, writable: false);
        string copy = _folder["copy.qcow2"];
        (await ToolProcess.RunAsync("qemu-img", "convert", "-f", "raw", "-O", "qcow2", Uri, copy)).MustSucceed();
        (await ToolProcess.RunAsync("qemu-img", "compare", "-f", "raw", "-F", "qcow2", export.Address, copy)).MustSucceed();
        (await ToolProcess.RunAsync("qemu-io", "-f", "qcow2", copy, "-c", "write -P 9 5M 64k")).MustSucceed();
        (await ToolProcess.RunAsync("qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", copy, Uri)).MustSucceed();
        (await ToolProcess.RunAsync("qemu-img", "compare", "-f", "raw", "-F", "qcow2", Uri, copy)).MustSucceed();
        Assert.All((await File.ReadAllBytesAsync(_folder["disk.raw"]))[(5 << 20)..((5 << 20) + 65536)], value => Assert.Equal(9, value));
    }

    [RequiresToolFact("qemu-io")]
    public async Task QemuIo_WriteZeroDiscardFua_ReadBackAsWritten()
    {
        ToolResult result = (await ToolProcess.RunAsync(
            "qemu-io", "-f", "raw", Uri,
            "-c", "write -P 1 0 1M",
            "-c", "write -z 4k 8k",
            "-c", "write -z -u 100k 200k",
            "-c", "write -f -P 7 3M 3M",
            "-c", "discard 512k 64k",
            "-c", "aio_write -P 5 1M 64k",
            "-c", "aio_write -P 6 1088k 64k",
            "-c", "aio_flush",
            "-c", "flush",
            "-c", "read -P 1 0 4k",
            "-c", "read -P 0 4k 8k",
            "-c", "read -P 1 12k 88k",
            "-c", "read -P 0 100k 200k",
            "-c", "read -P 0 512k 64k",
            "-c", "read -P 5 1M 64k",
            "-c", "read -P 6 1088k 64k",
            "-c", "read -P 7 3M 3M")).MustSucceed();
        Assert.DoesNotContain("verification failed", result.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("error", result.Output + result.Error, StringComparison.OrdinalIgnoreCase);
    }

    [RequiresToolFact("qemu-io")]
    public async Task QemuIo_ReadOnlyExport_RefusesToOpenForWriting()
    {
        await using NbdExport export = _server!.AddExport("ro", _device!, writable: false);
        ToolResult write = await ToolProcess.RunAsync("qemu-io", "-f", "raw", export.Address, "-c", "write 0 4k");
        Assert.NotEqual(0, write.ExitCode);
        (await ToolProcess.RunAsync("qemu-io", "-r", "-f", "raw", export.Address, "-c", "read 0 4k")).MustSucceed();
        await AssertFileIsAsync("disk.raw", _content);
    }

    [RequiresFioNbdFact]
    public async Task Fio_RandomWritesWithVerify_FindsNoDifference()
    {
        (await ToolProcess.RunAsync(
            "fio", "--name=verify", "--ioengine=nbd", $"--uri={Uri}", "--rw=randwrite", "--bsrange=512-256k", "--bs_unaligned=1", "--iodepth=32",
            "--size=16m", "--verify=crc32c", "--do_verify=1", "--verify_state_save=0", "--thread", "--output-format=terse")).MustSucceed();
    }

    [RequiresToolFact("nbdkit", "nbdinfo")]
    public async Task Nbdkit_AsProxy_PassesEverythingThrough()
    {
        ToolResult result = await ToolProcess.RunAsync(
            "nbdkit", "-f", "--exit-with-parent", "-U", "-", "nbd", $"uri={Uri}", "--run", "nbdcopy \"$uri\" '" + _folder["proxied.raw"] + "'");
        result.MustSucceed();
        await AssertFileIsAsync("proxied.raw", _content);
    }

    private async Task AssertFileIsAsync(string name, byte[] expected)
    {
        byte[] actual = await File.ReadAllBytesAsync(_folder[name]);
        Assert.True(expected.AsSpan().SequenceEqual(actual), $"{name} differs");
    }
}
