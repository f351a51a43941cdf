namespace BlockMount.Control.Schema;

/// <summary>Events.</summary>
internal static class EventSchema
{
    internal const string Text = """
        enum IoOperationType: read write
        enum BlockErrorAction: ignore report stop
        enum ShutdownCause: host-qmp-quit host-signal

        event SHUTDOWN
          | The daemon is about to end.
          guest: bool | Always false.
          reason: ShutdownCause

        event STOP
          | The devices were frozen.

        event RESUME
          | The devices were thawed.

        event BLOCK_IMAGE_CORRUPTED
          | Tables of an image were found damaged. Sent once for each image, and once more if it becomes unusable.
          device: str
          *node-name: str
          msg: str
          *offset: int
          *size: int
          fatal: bool | The image cannot be used any more.

        event BLOCK_IO_ERROR
          | A client's request failed. At most one a second for each device.
          device: str
          *node-name: str
          operation: IoOperationType
          action: BlockErrorAction
          *nospace: bool
          reason: str

        event BLOCK_WRITE_THRESHOLD
          | A write went past the threshold, which is switched off thereby.
          node-name: str
          amount-exceeded: uint64 | Bytes.
          write-threshold: uint64 | Bytes.

        event BLOCK_EXPORT_DELETED
          | An export is gone; its id may be used again.
          id: str
        """;
}
