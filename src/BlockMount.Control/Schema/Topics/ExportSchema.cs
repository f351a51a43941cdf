namespace BlockMount.Control.Schema;

/// <summary>Commands about exports and the NBD server.</summary>
internal static class ExportSchema
{
    internal const string Text = """
        enum BlockExportType: nbd fuse
        enum BlockExportRemoveMode: safe hard
        enum FuseExportAllowOther: off on auto

        struct BlockDirtyBitmap
          node: str
          name: str

        alternate BlockDirtyBitmapOrStr: str BlockDirtyBitmap

        struct BlockExportOptionsNbd
          *name: str | Name of the export; the node's by default.
          *description: str
          *bitmaps: [BlockDirtyBitmapOrStr] | Bitmaps that clients may look at.
          *allocation-depth: bool | Clients may ask which layer data comes from. Off by default.

        struct BlockExportOptionsFuse
          mountpoint: str | A file that is there; the disk appears in its place.
          *growable: bool | Writing past the end makes the disk larger. Off by default.
          *allow-other: FuseExportAllowOther | 'auto' by default.

        union BlockExportOptions on type
          type: BlockExportType
          id: str
          *fixed-iothread: bool
          *iothread: str | Accepted for QEMU's sake.
          node-name: str | A node or device.
          *writable: bool | Off by default.
          *writethrough: bool | Flush after each write. Off by default.
          when nbd: BlockExportOptionsNbd
          when fuse: BlockExportOptionsFuse

        command block-export-add
          | Serves a node to clients.
          args BlockExportOptions

        command block-export-del
          | Ends an export; it is gone when BLOCK_EXPORT_DELETED comes.
          id: str
          *mode: BlockExportRemoveMode | 'hard' disconnects clients; 'safe' by default: refused while there are any.

        struct BlockExportInfo
          id: str
          type: BlockExportType
          node-name: str
          shutting-down: bool

        command query-block-exports
          | The exports.
          returns [BlockExportInfo]

        enum SocketAddressType: inet unix vsock fd

        struct InetSocketAddress
          host: str
          port: str | A number or the name of a service.
          *numeric: bool
          *to: uint16 | Last of the ports that may be taken.
          *ipv4: bool
          *ipv6: bool
          *keep-alive: bool
          *mptcp: bool

        struct UnixSocketAddress
          path: str
          *abstract: bool
          *tight: bool

        struct VsockSocketAddress
          cid: str
          port: str

        struct String
          str: str

        struct InetSocketAddressWrapper
          data: InetSocketAddress

        struct UnixSocketAddressWrapper
          data: UnixSocketAddress

        struct VsockSocketAddressWrapper
          data: VsockSocketAddress

        struct StringWrapper
          data: String

        union SocketAddressLegacy on type
          type: SocketAddressType
          when inet: InetSocketAddressWrapper
          when unix: UnixSocketAddressWrapper
          when vsock: VsockSocketAddressWrapper
          when fd: StringWrapper

        union SocketAddress on type
          type: SocketAddressType
          when inet: InetSocketAddress
          when unix: UnixSocketAddress
          when vsock: VsockSocketAddress
          when fd: String

        struct NbdServerOptions
          | What the option --nbd-server takes.
          addr: SocketAddress
          *tls-creds: str
          *tls-authz: str
          *max-connections: uint32 | 100 by default; 0: no limit.
          *handshake-max-seconds: uint32 | How long a client may negotiate; 10 by default, 0: no limit.

        command nbd-server-start
          | Begins to listen for NBD clients.
          addr: SocketAddressLegacy
          *tls-creds: str | Name of an object.
          *tls-authz: str | Name of an object.
          *max-connections: uint32 | 100 by default; 0: no limit.
          *handshake-max-seconds: uint32 | How long a client may negotiate; 10 by default, 0: no limit.

        command nbd-server-add
          | Serves a node or device; block-export-add is to be preferred.
          features deprecated
          *name: str | Name of the export; the device's by default.
          *description: str
          device: str | Device or node.
          *writable: bool | Off by default.
          *bitmap: str | A bitmap that clients may look at.

        command nbd-server-remove
          | Ends an export; block-export-del is to be preferred.
          features deprecated
          name: str
          *mode: BlockExportRemoveMode | 'safe' by default.

        command nbd-server-stop
          | Ends all NBD exports, disconnects their clients and stops listening.
        """;
}
