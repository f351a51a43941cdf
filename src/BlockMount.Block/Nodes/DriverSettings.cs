using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Raw;
using BlockMount.Storage;

namespace BlockMount.Block.Nodes;

/// <summary>How the driver of a format node is made, kept so that the image can be opened again in another way. Immutable.</summary>
/// <param name="Format">"raw" or "qcow2".</param>
internal sealed record DriverSettings(string Format)
{
    /// <summary>For qcow2; who asks for a driver says which files, and whether to write.</summary>
    internal Qcow2OpenOptions Qcow2 { get; init; } = new();

    /// <summary>For raw: where the disk begins in its file, in bytes.</summary>
    internal long RawOffset { get; init; }

    /// <summary>For raw: bytes of the disk; null for all up to the end of the file.</summary>
    internal long? RawSize { get; init; }

    /// <summary>Opens the image. The files stay the caller's.</summary>
    /// <exception cref="ImageFormatException">It is not usable.</exception>
    /// <exception cref="Base.BlockIOException">A file cannot be read or written.</exception>
    internal async ValueTask<FormatDriver> OpenAsync(StorageFile file, StorageFile? dataFile, bool readOnly) => Format switch
    {
        "raw" => new RawDriver(file, leaveOpen: true, RawOffset, RawSize, readOnly),
        "qcow2" => await Qcow2Driver.OpenAsync(file, Qcow2 with { ReadOnly = readOnly, DataFile = dataFile, LeaveFilesOpen = true }),
        _ => throw ImageInfo.UnknownFormat(Format),
    };
}
