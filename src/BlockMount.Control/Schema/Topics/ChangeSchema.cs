namespace BlockMount.Control.Schema;

/// <summary>Commands that swap the image behind a device.</summary>
internal static class ChangeSchema
{
    internal const string Text = """
        command change
          | Swaps the image behind a device; exports stay. Of the year 2011, and gone from QEMU.
          device: str
          target: str | Path of the new image.
          *arg: str | Accepted with devices that this program does not have.
          *format: str | Of the new image; found out by default, and never guessed to be raw.
          *notify: bool | On by default.

        enum BlockdevChangeReadOnlyMode: retain read-only read-write

        command blockdev-change-medium
          | Swaps the image behind a device; exports stay. Both images are open for a moment, so the new one must not be in use, not even by the device.
          *device: str | This or id.
          *id: str | Device, or node at its top.
          filename: str | Path of the new image.
          *format: str | Of the new image; found out by default, and never guessed to be raw.
          *force: bool | Accepted and ignored: there is no tray that a guest could have locked.
          *read-only-mode: BlockdevChangeReadOnlyMode | 'retain' by default. A device that is served for writing cannot become read-only, nor the other way round.
        """;
}
