using System.Net;
using BlockMount.Base;
using BlockMount.Control.Commands;
using BlockMount.Daemon.Cli;
using Microsoft.Extensions.Logging;

namespace BlockMount.Daemon.Storage;

/// <summary>The character devices of a daemon by their ids. Owns them. Filled before the first client is served; then looking is for any thread.</summary>
internal sealed class ChannelTable(ILogger log, bool background) : IAsyncDisposable
{
    // The other kinds that QEMU has, and which carry no monitor here.
    private static readonly string[] s_notHere = ["file", "memory", "mux", "parallel", "pipe", "pty", "ringbuf", "serial", "udp"];

    private readonly List<Channel> _channels = [];

    /// <summary>As query-chardev shows them.</summary>
    public IReadOnlyList<MonitorChannel> Shown => [.. _channels.Select(channel => channel.Shown)];

    /// <summary>Makes the device that an option describes, and opens it.</summary>
    /// <exception cref="BlockMountException">It does not fit, or cannot be opened; then there is none.</exception>
    public async ValueTask AddAsync(string option, CancellationToken cancel)
    {
        ChannelOptions options = ChannelOptions.Parse(option);
        Channel channel = Make(options);
        if (_channels.Exists(other => other.Label == channel.Label))
        {
            throw new BlockMountException($"attempt to add duplicate property '{channel.Label}' to object (type 'container')");
        }

        _channels.Add(channel);
        await channel.OpenAsync(cancel);
    }

    /// <summary>The device of that id.</summary>
    /// <exception cref="BlockMountException">There is none.</exception>
    public Channel Get(string id) => _channels.Find(channel => channel.Label == id) ?? throw new BlockMountException($"chardev \"{id}\" not found");

    /// <summary>From now on monitors talk to clients.</summary>
    public void Begin() => _channels.ForEach(channel => channel.Begin());

    /// <summary>Removes the sockets and ends the clients once their commands have ended.</summary>
    public async ValueTask DisposeAsync()
    {
        foreach (Channel channel in _channels)
        {
            await channel.DisposeAsync();
        }
    }

    private Channel Make(ChannelOptions options)
    {
        switch (options.Backend)
        {
            case "null":
                return new NullChannel(options.Id);
            case "stdio" when background:
                throw new BlockMountException("cannot use stdio with -daemonize");
            case "stdio" when _channels.Exists(channel => channel is StdioChannel):
                throw new BlockMountException("cannot use stdio by multiple character devices");
            case "stdio":
                return new StdioChannel(options.Id);
            case "socket":
                return MakeSocket(options);
            case "":
                throw new BlockMountException($"chardev: \"{options.Id}\" missing backend");
            case var other when s_notHere.Contains(other):
                throw new BlockMountException($"chardev backend '{other}' is not supported", "Monitors sit on socket, stdio or null.");
            case var other:
                throw new BlockMountException($"'{other}' is not a valid char driver name");
        }
    }

    private Channel MakeSocket(ChannelOptions options)
    {
        options.RefuseUnsupported();
        bool server = options.Flag("server") == true;
        bool? wait = options.Flag("wait");
        if (!server && wait is not null)
        {
            throw new BlockMountException("'wait' option is incompatible with socket in client connect mode");
        }

        EndPoint endPoint = AddressOf(options);
        return server ? new SocketChannel(options.Id, endPoint, waits: wait != false, log) : new ClientChannel(options.Id, endPoint);
    }

    private static EndPoint AddressOf(ChannelOptions options)
    {
        string? path = options.Text("path");
        string? host = options.Text("host");
        if (path is not null)
        {
            return host is null ? ListenAddress.Parse("path", "unix:" + path) : throw new BlockMountException("None or one of 'path', 'fd' or 'host' option required.");
        }

        if (host is null && options.Text("port") is null)
        {
            throw new BlockMountException("chardev: socket: neither path nor host given");
        }

        string port = options.Text("port") ?? throw new BlockMountException("chardev: socket: no port given");
        return ListenAddress.Parse("host", $"{host}:{port}");
    }
}
