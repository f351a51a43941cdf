using System.Globalization;
using System.Net;
using System.Net.Sockets;
using BlockMount.Block.Devices;
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
    private readonly ExportManager _exports;
    private readonly DeviceLookup _lookup;

    private ExportCommands(IMonitorHost host)
    {
        _exports = host.Exports;
        _lookup = new DeviceLookup(host);
    }

    /// <summary>Adds the commands to the table.</summary>
    public static void Register(CommandTable commands, QmpEvents events, IMonitorHost host)
    {
        ExportCommands exports = new(host);
        commands.Register(ExportSchema.Query, exports.Query);
        commands.Register(ExportSchema.Add, exports.AddAsync);
        commands.Register(ExportSchema.Delete, exports.DeleteAsync);
        commands.Register(ExportSchema.ServerStart, exports.StartServerAsync);
        commands.Register(ExportSchema.ServerAdd, exports.AddToServer);
        commands.Register(ExportSchema.ServerRemove, exports.RemoveFromServerAsync);
        commands.Register(ExportSchema.ServerStop, exports.StopServerAsync);
        commands.Register(ExportSchema.Deleted);
        host.Exports.Deleted += id => events.Emit(ExportSchema.Deleted.Name, new JsonObject { ["id"] = id });
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

        BlockDevice device = _lookup.Get(arguments);
        bool writable = arguments.Flag("writable") == true;
        if (writable && device.ReadOnly)
        {
            throw new CommandException("Cannot export read-only node as writable");
        }

        if (arguments.Text("type") == "nbd")
        {
            _exports.AddNbd(id, device, arguments.Text("name") ?? arguments.Text("node-name")!, writable, arguments.Text("description"));
        }
        else
        {
            await AddFuseAsync(id, device, writable, arguments);
        }

        return CommandTable.Nothing;
    }

    private ValueTask AddFuseAsync(string id, BlockDevice device, bool writable, JsonObject arguments)
    {
        string mountPoint = Path.GetFullPath(arguments.Text("mountpoint")!);
        if (!File.Exists(mountPoint))
        {
            throw new CommandException(Directory.Exists(mountPoint)
                ? $"'{mountPoint}' is not a regular file" : $"Failed to stat '{mountPoint}': No such file or directory");
        }

        return _exports.AddFuseAsync(id, device, new FuseExportOptions
        {
            Id = id,
            MountPoint = mountPoint,
            FileSystemName = device.Root.FileName,
            Writable = writable,
            Growable = arguments.Flag("growable") == true,
            AllowOther = arguments.Text("allow-other") switch { "on" => AllowOther.On, "off" => AllowOther.Off, _ => AllowOther.Auto },
        });
    }

    private async ValueTask<JsonValue> DeleteAsync(JsonObject arguments)
    {
        await _exports.RemoveAsync(arguments.Text("id")!, arguments.Text("mode") == "hard");
        return CommandTable.Nothing;
    }

    private async ValueTask<JsonValue> StartServerAsync(JsonObject arguments)
    {
        await _exports.StartNbdServerAsync(new NbdServerOptions
        {
            EndPoint = Address(arguments.Object("addr")!),
            ConnectionsMax = (int)Math.Min(arguments.Integer("max-connections") ?? 100, int.MaxValue),
            HandshakeTimeout = TimeSpan.FromSeconds(arguments.Integer("handshake-max-seconds") ?? 10),
        });
        return CommandTable.Nothing;
    }

    private void AddToServer(JsonObject arguments)
    {
        string name = arguments.Text("device")!;
        BlockDevice device = _lookup.Get(name);
        string export = arguments.Text("name") ?? name;
        // As in QEMU, and unlike block-export-add, what cannot be written is served read-only.
        _exports.AddNbd(export, device, export, arguments.Flag("writable") == true && !device.ReadOnly, arguments.Text("description"));
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
