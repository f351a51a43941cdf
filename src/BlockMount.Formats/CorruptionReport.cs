namespace BlockMount.Formats;

/// <summary>
/// Damage found while an image was in use. The first one ends all writing to the image; reads go on. What QMP calls BLOCK_IMAGE_CORRUPTED.
/// </summary>
/// <param name="FileName">The image, as the user named it.</param>
/// <param name="What">What was found, without the offsets, as "L2 entry names a cluster that holds the refcount table".</param>
/// <param name="HostOffset">Where in the image file, in bytes.</param>
/// <param name="GuestOffset">Which byte of the disk the request was about; null if none.</param>
/// <param name="IsFatal">The image was open for writing and takes no more writes; false: it was read-only anyway, and nothing changed.</param>
public sealed record CorruptionReport(string FileName, string What, long HostOffset, long? GuestOffset, bool IsFatal)
{
    /// <summary>The header of the image says so from now on. False for version 2, for read-only images, and where the write failed.</summary>
    public bool IsMarkedOnDisk { get; init; }

    /// <summary>What was found and where, on one line.</summary>
    public string Message => GuestOffset is { } guest
        ? $"'{FileName}' is damaged: {What} (host offset 0x{HostOffset:x}, guest offset 0x{guest:x})"
        : $"'{FileName}' is damaged: {What} (host offset 0x{HostOffset:x})";

    /// <summary>What to do.</summary>
    public string Hint => IsFatal
        ? $"Nothing is written to it any more; reads go on. Copy what matters, stop, then run 'blockmount check -r all {FileName}'"
        : $"Run 'blockmount check {FileName}' to see what is wrong, and 'blockmount check -r all {FileName}' to repair it";
}
