using System.Net.Sockets;
using System.Text.Json;
using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Exports.Fuse;
using BlockMount.Exports.Nbd;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Interop.Fuse;
using BlockMount.Interop.Nbd;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace BlockMount.Interop.Load;

/// <summary>
/// 1,000,000 requests of 4 KiB, 32 under way for each of two clients, cost no collection and no byte each, on every way to the device: reads of a qcow2 chain, and reads
/// and writes in place mixed. The clients are processes of their own: all that is counted here is the server's.
/// </summary>
[Collection(RunAlone.Name)]
public sealed class MillionRequestTests : IDisposable
{
    private const int Requests = 1_000_000;
    private const int Clients = 2;
    private const int Size = 4 << 20;

    // What starting fio costs in this process, and less than 5 bytes for each request.
    private const int BytesMax = 4 << 20;

    private readonly ScratchFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [RequiresTheory(Needs.Fuse, "fio")]
    [InlineData("randread")]
    [InlineData("randrw")]
    public Task FuseDev_MillionRequests_CollectNothing(string mode) => OverFuseAsync(FuseTransport.Dev, mode);

    // Reads of a file are in FuseRingTests.
    [RequiresFact(Needs.FuseUring, "fio")]
    public Task FuseUring_MillionReadsAndWrites_CollectNothing() => OverFuseAsync(FuseTransport.Uring, "randrw");

    [RequiresFioNbdTheory]
    [InlineData("randread")]
    [InlineData("randrw")]
    public async Task Nbd_MillionRequests_CollectNothing(string mode)
    {
        await using BlockDevice device = await OpenAsync();
        NbdServerOptions options = new() { EndPoint = new UnixDomainSocketEndPoint(_folder["nbd.sock"]) };
        await using NbdServer server = await NbdServer.StartAsync(options, NullLogger.Instance);
        await using NbdExport export = server.AddExport("disk", device, writable: true);
        await CollectsNothingAsync(mode, "--ioengine=nbd", $"--uri={export.Address}", "--thread=1");
    }

    private async Task OverFuseAsync(FuseTransport transport, string mode)
    {
        await using MountedDisk disk = await MountedDisk.MountAsync(await OpenAsync(), writable: true, options => options with { Transport = transport });
        Assert.Equal(transport, disk.Export.Transport);
        await CollectsNothingAsync(mode, "--ioengine=libaio", $"--filename={disk.Path}", "--direct=1", "--thread=1");
    }

    // Every second cluster is in the active layer and the rest in the one below, until something is written there.
    private async Task<BlockDevice> OpenAsync()
    {
        byte[] content = new byte[Size];
        new Random(4).NextBytes(content);
        await CreateAsync("base.qcow2", backing: null);
        await using (BlockDevice below = await OpenAsync("base.qcow2"))
        {
            await below.WriteAsync(0, content);
        }

        await CreateAsync("top.qcow2", new BackingReference("base.qcow2", "qcow2"));
        BlockDevice device = await OpenAsync("top.qcow2");
        for (int offset = 0; offset < Size; offset += 128 << 10)
        {
            await device.WriteAsync(offset, content.AsMemory(offset, 64 << 10));
        }

        return device;
    }

    private async Task CreateAsync(string name, BackingReference? backing)
    {
        await File.WriteAllBytesAsync(_folder[name], []);
        await using StorageFile file = await PosixStorage.Instance.OpenAsync(_folder[name], new StorageOpenOptions());
        await Qcow2Create.CreateAsync(file, new Qcow2CreateOptions { Size = Size, Backing = backing });
    }

    private async Task<BlockDevice> OpenAsync(string name) =>
        new("disk0", await new ChainOpener(PosixStorage.Instance, new OpenPolicy()).OpenAsync(_folder[name], new ChainOpenOptions()), readOnly: false);

    private static async Task CollectsNothingAsync(string mode, params string[] client)
    {
        // Code is compiled, buffers are made, and for writes every cluster is allocated.
        await RunAsync(mode, 30_000, client);
        await RunAsync(mode, 30_000, client);
        int collections = GC.CollectionCount(0);
        long bytes = GC.GetTotalAllocatedBytes(precise: true);
        await RunAsync(mode, Requests, client);

        Assert.InRange(GC.GetTotalAllocatedBytes(precise: true) - bytes, 0, BytesMax);
        Assert.InRange(GC.CollectionCount(0) - collections, 0, 1);
    }

    private static async Task RunAsync(string mode, int requests, string[] client)
    {
        ToolResult result = (await ToolProcess.RunAsync(
            TimeSpan.FromMinutes(2),
            "fio", ["--name=load", $"--rw={mode}", "--bs=4k", $"--size={Size}", $"--numjobs={Clients}", "--group_reporting=1", "--iodepth=32", "--norandommap=1",
                $"--io_size={requests / Clients * 4096L}", "--output-format=json", "--allow_file_create=0", .. client])).MustSucceed();
        Assert.Equal(requests, FioRequests(result.Output));
    }

    private static long FioRequests(string output)
    {
        using JsonDocument json = JsonDocument.Parse(output[output.IndexOf('{', StringComparison.Ordinal)..]);
        JsonElement job = json.RootElement.GetProperty("jobs")[0];
        return job.GetProperty("read").GetProperty("total_ios").GetInt64() + job.GetProperty("write").GetProperty("total_ios").GetInt64();
    }
}
