using static BlockMount.Control.Schema.BuiltinType;
using static BlockMount.Control.Schema.Describe;

namespace BlockMount.Control.Schema;

/// <summary>Commands and events about exports and the NBD server.</summary>
internal static class ExportSchema
{
    private static readonly EnumType s_kind = Enum("BlockExportType", "nbd", "fuse");

    private static readonly EnumType s_mode = Enum("BlockExportRemoveMode", "safe", "hard");

    private static readonly UnionType s_address = new(
        "SocketAddressLegacy", [Need("type", Enum("SocketAddressType", "inet", "unix"))], "type",
        () => new Dictionary<string, StructType>
        {
            ["inet"] = Struct("InetSocketAddressWrapper", Need("data", Struct(
                "InetSocketAddress", Need("host", Str, "Name or address."), Need("port", Str, "A number; 0 chooses one."),
                May("numeric", Bool), May("to", Int), May("ipv4", Bool), May("ipv6", Bool), May("keep-alive", Bool), May("mptcp", Bool)))),
            ["unix"] = Struct("UnixSocketAddressWrapper", Need("data", Struct("UnixSocketAddress", Need("path", Str), May("abstract", Bool), May("tight", Bool)))),
        });

    internal static readonly CommandDescription Query = Command(
        "query-block-exports", "The exports.", [],
        ListOf(Struct("BlockExportInfo", Need("id", Str), Need("type", s_kind), Need("node-name", Str), Need("shutting-down", Bool))));

    internal static readonly CommandDescription Add = new(
        "block-export-add",
        new UnionType(
            "BlockExportOptions",
            [Need("type", s_kind), Need("id", Str), Need("node-name", Str, "A node or device."), May("writable", Bool, "False if left out.")],
            "type",
            () => new Dictionary<string, StructType>
            {
                ["nbd"] = Struct("BlockExportOptionsNbd", May("name", Str, "What clients ask for; the node-name if left out."), May("description", Str)),
                ["fuse"] = Struct(
                    "BlockExportOptionsFuse", Need("mountpoint", Str, "An existing regular file."), May("growable", Bool, "Writes past the end enlarge the disk."),
                    May("allow-other", Enum("FuseExportAllowOther", "off", "on", "auto"), "Who else may use it; auto if left out.")),
            }),
        null, "Serves a device.");

    internal static readonly CommandDescription Delete = Command(
        "block-export-del", "Begins to end an export; BLOCK_EXPORT_DELETED tells when that is done.",
        [Need("id", Str), May("mode", s_mode, "safe, the default, refuses while clients are connected; hard disconnects them.")]);

    internal static readonly CommandDescription ServerStart = Command(
        "nbd-server-start", "Starts the NBD server to which exports of type nbd are added.",
        [
            Need("addr", s_address), May("max-connections", Uint32, "100 if left out; 0 for no limit."),
            May("handshake-max-seconds", Uint32, "10 if left out; 0 for no limit."),
        ]);

    internal static readonly CommandDescription ServerAdd = Command(
        "nbd-server-add", "Serves a device on the NBD server.",
        [Need("device", Str), May("name", Str, "The device if left out."), May("description", Str), May("writable", Bool)]) with
    { Deprecated = true };

    internal static readonly CommandDescription ServerRemove = Command(
        "nbd-server-remove", "Ends such an export.", [Need("name", Str), May("mode", s_mode)]) with
    { Deprecated = true };

    internal static readonly CommandDescription ServerStop = Command("nbd-server-stop", "Ends the NBD server with its exports and clients.", []);

    internal static readonly EventDescription Deleted = Event("BLOCK_EXPORT_DELETED", "An export has ended.", Need("id", Str));
}
