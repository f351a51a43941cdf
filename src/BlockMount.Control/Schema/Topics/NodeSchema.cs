namespace BlockMount.Control.Schema;

/// <summary>Commands that change nodes.</summary>
internal static class NodeSchema
{
    internal const string Text = """
        command blockdev-add
          | Opens a node. Nodes inside it are opened too, or named.
          args BlockdevOptions

        command blockdev-reopen
          | Gives nodes new options, all or none. What is not said goes back to its default.
          options: [BlockdevOptions]

        command blockdev-del
          | Closes a node that was added by itself and that nobody uses.
          node-name: str

        command change-backing-file
          | Rewrites what an image's header says of its backing file. The node is not opened anew, and the name is not checked.
          device: str | Device, or node at the top of its chain.
          image-node-name: str | The node whose header is rewritten.
          backing-file: str

        command block_resize
          | Changes the size of a disk. Exports show the new size as their protocol allows.
          *device: str | This or node-name.
          *node-name: str
          size: int | Bytes.

        command block-set-write-threshold
          | Sends one BLOCK_WRITE_THRESHOLD when a write on the node goes past an offset.
          node-name: str
          write-threshold: uint64 | Bytes; 0 switches it off.
        """;
}
