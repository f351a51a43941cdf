using BlockMount.Formats.Qcow2.Bitmaps;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats;

/// <summary>What one image says of itself. Made from its header alone: no other file is opened and no reference followed.</summary>
public sealed record ImageInfo
{
    private const int SectorSize = 512;

    /// <summary>The path as it was given.</summary>
    public required string FileName { get; init; }

    /// <summary>"raw" or "qcow2".</summary>
    public required string Format { get; init; }

    /// <summary>Bytes that the guest sees.</summary>
    public required long VirtualSize { get; init; }

    /// <summary>Bytes that the host file occupies.</summary>
    public required long ActualSize { get; init; }

    /// <summary>The qcow2 header; null for raw.</summary>
    public Qcow2Header? Header { get; init; }

    /// <summary>Internal snapshots; empty for raw.</summary>
    public IReadOnlyList<SnapshotEntry> Snapshots { get; init; } = [];

    /// <summary>Persistent bitmaps; empty for raw.</summary>
    public BitmapDirectory Bitmaps { get; init; } = BitmapDirectory.Empty;

    /// <summary>What the image names as its backing file; null if none.</summary>
    public BackingReference? Backing => Header?.Backing;

    /// <summary>Inspects <paramref name="file"/>, which stays open. <paramref name="format"/> is "raw" or "qcow2".</summary>
    /// <exception cref="ImageFormatException">Not an image of that format, damaged, or with unknown incompatible features.</exception>
    public static async ValueTask<ImageInfo> LoadAsync(StorageFile file, string fileName, string format)
    {
        switch (format)
        {
            case "raw":
                return new ImageInfo
                {
                    FileName = fileName,
                    Format = format,
                    VirtualSize = (file.Length + SectorSize - 1) / SectorSize * SectorSize,
                    ActualSize = file.AllocatedBytes,
                };
            case "qcow2":
                Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file);
                FeaturePolicy.CheckKnown(header, file.Name);
                return new ImageInfo
                {
                    FileName = fileName,
                    Format = format,
                    VirtualSize = header.Size,
                    ActualSize = file.AllocatedBytes,
                    Header = header,
                    Snapshots = await SnapshotTable.LoadAsync(file, header),
                    Bitmaps = await BitmapDirectory.LoadAsync(file, header),
                };
            default:
                throw UnknownFormat(format);
        }
    }

    /// <summary>The refusal of a format name that nobody knows.</summary>
    public static ImageFormatException UnknownFormat(string format) =>
        new($"Unknown file format '{format}'", "Known are raw and qcow2");
}
