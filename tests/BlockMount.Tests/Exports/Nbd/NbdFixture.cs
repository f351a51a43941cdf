using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Exports.Nbd;
using BlockMount.Formats.Raw;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Microsoft.Extensions.Logging.Abstractions;

namespace BlockMount.Tests.Exports.Nbd;

/// <summary>A device in memory, exported as "disk", and connections to it in memory, each served on a thread of its own.</summary>
internal sealed class NbdFixture : IAsyncDisposable
{
    private readonly List<(NbdConnection Connection, MemoryTransport Transport)> _connections = [];

    public NbdFixture(long size = 1 << 20, bool writable = true, Func<MemoryFile, StorageFile>? wrap = null, bool oneExport = true)
    {
        Content = new byte[size];
        new Random(1).NextBytes(Content);
        File = new MemoryFile("disk", readOnly: false, Content);
        Device = new BlockDevice("drive0", new FormatNode("node0", "disk", new RawDriver(wrap?.Invoke(File) ?? File), backing: null), readOnly: false);
        Export = Add("disk", Device, writable, "a disk for tests");
        if (!oneExport)
        {
            Add("other", Device, writable: false, description: null);
        }
    }

    public byte[] Content { get; }

    public MemoryFile File { get; }

    public BlockDevice Device { get; }

    public NbdExportTable Table { get; } = new();

    public NbdExport Export { get; }

    public NbdExport Add(string name, BlockDevice device, bool writable, string? description)
    {
        NbdExport export = new(Table, name, device, writable, description, "nbd://test/" + name, multiConnection: true);
        Xunit.Assert.True(Table.TryAdd(export));
        return export;
    }

    /// <summary>A client whose connection is served in the background.</summary>
    public NbdTestClient Connect(out MemoryTransport transport, int receiveMax = int.MaxValue)
    {
        transport = new MemoryTransport(receiveMax);
        NbdConnection connection = new(transport, Table, TimeSpan.FromSeconds(20), "test", NullLogger.Instance);
        connection.Start();
        _connections.Add((connection, transport));
        return new NbdTestClient(transport);
    }

    public NbdTestClient Connect(int receiveMax = int.MaxValue) => Connect(out _, receiveMax);

    /// <summary>A client in transmission.</summary>
    public NbdTestClient Enter(bool structured = true, int receiveMax = int.MaxValue)
    {
        NbdTestClient client = Connect(out _, receiveMax);
        client.Enter("disk", structured);
        return client;
    }

    /// <summary>Waits until every connection has ended by itself or because its client closed.</summary>
    public async Task CloseClientsAsync()
    {
        foreach ((NbdConnection connection, MemoryTransport transport) in _connections)
        {
            transport.ClientClose();
            await connection.Completion.WaitAsync(TimeSpan.FromSeconds(20));
        }
    }

    public async ValueTask DisposeAsync()
    {
        await CloseClientsAsync();
        await Export.DisposeAsync();
        await Device.DisposeAsync();
    }
}

/// <summary>Passes everything on to another file, with a chance to wait or fail before. Requests then complete on other threads.</summary>
internal class DetourFile(StorageFile inner, Func<string, long, Task> before) : StorageFile
{
    public override string Name => inner.Name;

    public override bool ReadOnly => inner.ReadOnly;

    public override long Length => inner.Length;

    public override long AllocatedBytes => inner.AllocatedBytes;

    public override async ValueTask FlushAsync()
    {
        await before("flush", 0);
        await inner.FlushAsync();
    }

    public override ValueTask ResizeAsync(long length) => inner.ResizeAsync(length);

    public override async ValueTask<FileExtent> MapAsync(long offset, long length)
    {
        await before("map", offset);
        return await inner.MapAsync(offset, length);
    }

    public override ValueTask DisposeAsync() => inner.DisposeAsync();

    protected override async ValueTask ReadCoreAsync(long offset, Memory<byte> buffer)
    {
        await before("read", offset);
        await inner.ReadAsync(offset, buffer);
    }

    protected override async ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        await before("write", offset);
        await inner.WriteAsync(offset, buffer);
    }

    protected override async ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap)
    {
        await before("zero", offset);
        await inner.WriteZeroesAsync(offset, length, mayUnmap);
    }

    protected override async ValueTask<bool> PunchHoleCoreAsync(long offset, long length)
    {
        await before("punch", offset);
        return await inner.PunchHoleAsync(offset, length);
    }
}

/// <summary>Reports data and holes in turn, each in two pieces, whatever the content is.</summary>
internal sealed class HoleyFile(StorageFile inner, int pieceBytes = 32768) : DetourFile(inner, (_, _) => Task.CompletedTask)
{
    public override ValueTask<FileExtent> MapAsync(long offset, long length)
    {
        long piece = offset / pieceBytes;
        return new(new FileExtent(Math.Min(length, (piece + 1) * pieceBytes - offset), IsHole: (piece & 2) != 0));
    }
}
