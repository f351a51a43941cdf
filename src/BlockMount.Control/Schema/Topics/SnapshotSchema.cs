namespace BlockMount.Control.Schema;

/// <summary>Commands that keep a disk as it is, outside or inside its image.</summary>
internal static class SnapshotSchema
{
    internal const string Text = """
        enum NewImageMode: existing absolute-paths

        struct BlockdevSnapshotSync
          *device: str | This or node-name.
          *node-name: str
          snapshot-file: str | The new image.
          *snapshot-node-name: str | Name of the new node; needed with node-name.
          *format: str | 'qcow2' by default.
          *mode: NewImageMode | 'existing': the file is there and is only opened. 'absolute-paths' by default: it is made.

        command blockdev-snapshot-sync
          | Makes a new image above the active layer, which is kept as it is from now on.
          args BlockdevSnapshotSync

        struct BlockdevSnapshot
          node: str | The active layer.
          overlay: str | A node without a backing file, which becomes the active layer above it.

        command blockdev-snapshot
          | The same with a node that is open already.
          features allow-write-only-overlay
          args BlockdevSnapshot

        struct BlockdevSnapshotInternal
          device: str
          name: str

        command blockdev-snapshot-internal-sync
          | Keeps the disk as it is under a name, inside its image.
          args BlockdevSnapshotInternal

        command blockdev-snapshot-delete-internal-sync
          | Forgets such a snapshot and returns what was known of it. At least one of id and name is given.
          device: str
          *id: str
          *name: str
          returns SnapshotInfo
        """;
}
