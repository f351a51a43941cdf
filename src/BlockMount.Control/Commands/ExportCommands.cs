using System.Globalization;
using System.Net;
using System.Net.Sockets;
using BlockMount.Control.Json;
using BlockMount.Control.Qmp;
using BlockMount.Control.Schema;
using BlockMount.Exports;
using BlockMount.Exports.Fuse;
using BlockMount.Exports.Nbd;

namespace BlockMount.Control.Commands;

/// <summary>Commands about exports and the NBD server.</summary>
public sealed class ExportCommands
{
    // Taken by QEMU, and not to be passed over in silence.
    private static readonly string[] s_missing = ["writethrough", "allocation-depth"];

    private readonly ExportManager _exports;
    private readonly ExportDevices _devices;
    private readonly ObjectStore _objects;

    private ExportCommands(IMonitorHost host, ObjectStore objects)
    {
        _exports = host.Exports;
        _devices = new ExportDevices(host);
        _objects = objects;
    }

    /// <summary>Adds the commands to the table.</summary>
    public static void Register(CommandTable commands, QmpEvents events, IMonitorHost host, ObjectStore objects)
    {
        ExportCommands exports = new(host, objects);
        commands.Register("query-block-exports", exports.Query);
        commands.Register("block-export-add", exports.AddAsync);
        commands.Register("block-export-del", exports.DeleteAsync);
        commands.Register("nbd-server-start", exports.StartServerAsync);
        commands.Register("nbd-server-add", exports.AddToServerAsync);
        commands.Register("nbd-server-remove", exports.RemoveFromServerAsync);
        commands.Register("nbd-server-stop", exports.StopServerAsync);
        host.Exports.Deleted += id => events.Emit("BLOCK_EXPORT_DELETED", new JsonObject { ["id"] = id });
    }

    private JsonValue Query(JsonObject arguments) => new JsonList(_exports.Exports.Select(export => new JsonObject
    {
        ["node-name"] = export.Export.Device.Root.Name,
        ["shutting-down"] = export.ShuttingDown,
        ["type"] = export.Export.Kind,
        ["id"] = export.Id,
    }));

    private async ValueTask<JsonValue> AddAsync(JsonObject arguments)
    {
        string id = arguments.Text("id")!;
        if (!IsWellFormed(id))
        {
            throw new CommandException("Invalid block export id");
        }

        _exports.CheckNew(id);
        if (arguments.Text("iothread") is { } thread && _objects.TryFind(thread)?.Kind != "iothread")
        {
            throw new CommandException($"iothread \"{thread}\" not found");
        }

        CheckBitmaps(arguments.List("bitmaps") ?? new JsonList());
        foreach (string option in s_missing.Where(option => arguments.Flag(option) == true))
        {
            throw new CommandException($"Option '{option}' is not supported by this program");
        }

        ExportDevice served = await _devices.GetAsync(id, arguments.Text("node-name")!, arguments.Flag("writable") == true);
        try
        {
            await ServeAsync(id, served, arguments);
        }
        catch
        {
            await served.EndAsync();
            throw;
        }

        return CommandTable.Nothing;
    }

    // No device has bitmaps yet that a client could look at.
    private static void CheckBitmaps(IEnumerable<JsonValue> bitmaps)
    {
        if (bitmaps.FirstOrDefault() is { } bitmap)
        {
            throw new CommandException($"Bitmap '{(bitmap as JsonString)?.Value ?? ((JsonObject)bitmap).Text("name")}' is not found");
        }
    }

    private ValueTask ServeAsync(string id, ExportDevice served, JsonObject arguments)
    {
        bool writable = arguments.Flag("writable") == true;
        if (arguments.Text("type") == "fuse")
        {
            return AddFuseAsync(id, served, writable, arguments);
        }

        string name = arguments.Text("name") ?? arguments.Text("node-name")!;
        _exports.AddNbd(id, served.Device, name, writable, arguments.Text("description"), served.EndAsync);
        return ValueTask.CompletedTask;
    }

    private ValueTask AddFuseAsync(string id, ExportDevice served, bool writable, JsonObject arguments)
    {
        string mountPoint = Path.GetFullPath(arguments.Text("mountpoint")!);
        if (!File.Exists(mountPoint))
        {
            throw new CommandException(Directory.Exists(mountPoint)
                ? $"'{mountPoint}' is not a regular file" : $"Failed to stat '{mountPoint}': No such file or directory");
        }

        FuseExportOptions options = new()
        {
            Id = id,
            MountPoint = mountPoint,
            FileSystemName = served.Device.Root.FileName,
            Writable = writable,
            Growable = arguments.Flag("growable") == true,
            AllowOther = arguments.Text("allow-other") switch { "on" => AllowOther.On, "off" => AllowOther.Off, _ => AllowOther.Auto },
        };
        return _exports.AddFuseAsync(id, served.Device, options, served.EndAsync);
    }

    private async ValueTask<JsonValue> DeleteAsync(JsonObject arguments)
    {
        await _exports.RemoveAsync(arguments.Text("id")!, arguments.Text("mode") == "hard");
        return CommandTable.Nothing;
    }

    private async ValueTask<JsonValue> StartServerAsync(JsonObject arguments)
    {
        if (arguments.Text("tls-creds") is { } credentials)
        {
            throw new CommandException($"No TLS credentials with id '{credentials}'");
        }

        await _exports.StartNbdServerAsync(new NbdServerOptions
        {
            EndPoint = Address(arguments.Object("addr")!),
            ConnectionsMax = (int)Math.Min(arguments.Integer("max-connections") ?? 100, int.MaxValue),
            HandshakeTimeout = TimeSpan.FromSeconds(arguments.Integer("handshake-max-seconds") ?? 10),
        });
        return CommandTable.Nothing;
    }

    private async ValueTask<JsonValue> AddToServerAsync(JsonObject arguments)
    {
        string name = arguments.Text("device")!;
        string export = arguments.Text("name") ?? name;
        _exports.CheckNew(export);
        CheckBitmaps(arguments.TryGet("bitmap", out JsonValue? bitmap) ? [bitmap] : []);
        // As in QEMU, and unlike block-export-add, what cannot be written is served read-only.
        bool writable = arguments.Flag("writable") == true && await _devices.CanWriteAsync(name);
        ExportDevice served = await _devices.GetAsync(export, name, writable, name);
        try
        {
            _exports.AddNbd(export, served.Device, export, writable, arguments.Text("description"), served.EndAsync);
        }
        catch
        {
            await served.EndAsync();
            throw;
        }

        return CommandTable.Nothing;
    }

    private async ValueTask<JsonValue> RemoveFromServerAsync(JsonObject arguments)
    {
        await _exports.RemoveAsync(arguments.Text("name")!, arguments.Text("mode") == "hard");
        return CommandTable.Nothing;
    }

    private async ValueTask<JsonValue> StopServerAsync(JsonObject arguments)
    {
        await _exports.StopNbdServerAsync();
        return CommandTable.Nothing;
    }

    private static bool IsWellFormed(string id) =>
        id.Length > 0 && char.IsAsciiLetter(id[0]) && id.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '.' or '_');

    private static EndPoint Address(JsonObject address)
    {
        JsonObject data = address.Object("data")!;
        if (address.Text("type") == "unix")
        {
            return new UnixDomainSocketEndPoint(Path.GetFullPath(data.Text("path")!));
        }

        if (address.Text("type") != "inet")
        {
            throw new CommandException($"Addresses of type '{address.Text("type")}' are not supported");
        }

        if (!ushort.TryParse(data.Text("port"), NumberStyles.None, CultureInfo.InvariantCulture, out ushort port))
        {
            throw new CommandException($"address resolution failed for {data.Text("host")}:{data.Text("port")}: Servname not supported for ai_socktype");
        }

        return new IPEndPoint(Host(data.Text("host")!), port);
    }

    private static IPAddress Host(string host)
    {
        try
        {
            return IPAddress.TryParse(host, out IPAddress? address) ? address : Dns.GetHostAddresses(host)[0];
        }
        catch (SocketException error)
        {
            throw new CommandException($"address resolution failed for {host}: {error.Message}", innerException: error);
        }
    }
}
