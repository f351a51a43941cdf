using System.Text;
using BlockMount.Base;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.Bitmaps;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Daemon.Cli;

/// <summary>The answer of info for people: the lines of qemu-img info, and notes behind them.</summary>
internal static class InfoText
{
    /// <summary>All images, separated by empty lines.</summary>
    public static string Write(IReadOnlyList<InspectedImage> images) => string.Join('\n', images.Select(Describe));

    private static string Describe(InspectedImage inspected)
    {
        ImageInfo image = inspected.Image;
        var text = new StringBuilder();
        Line(text, $"image: {image.FileName}");
        Line(text, $"file format: {image.Format}");
        Line(text, $"virtual size: {ByteSize.Format(image.VirtualSize)} ({image.VirtualSize} bytes)");
        Line(text, $"disk size: {ByteSize.Format(image.ActualSize)}");
        if (image.Header is { } header)
        {
            DescribeHeader(text, inspected, header);
            foreach (string line in SnapshotListText.Lines(image.Snapshots))
            {
                Line(text, line);
            }

            DescribeFeatures(text, header, image.Bitmaps);
        }

        if (inspected.IsLive)
        {
            Line(text, "note: live, another program has the image open and may be changing it");
        }

        return text.ToString();
    }

    private static void DescribeHeader(StringBuilder text, InspectedImage inspected, Qcow2Header header)
    {
        if (header.CryptMethod != 0)
        {
            Line(text, "encrypted: yes");
        }

        if (header.HasIncompatible(FeatureBits.Dirty))
        {
            Line(text, "cleanly shut down: no");
        }

        Line(text, $"cluster_size: {header.ClusterSize}");
        if (header.Backing is { } backing)
        {
            string actual = inspected.BackingPath switch
            {
                null => " (refused: not a plain file name)",
                string path when path != backing.FileName => $" (actual path: {path})",
                _ => "",
            };
            Line(text, $"backing file: {backing.FileName}{actual}");
            if (backing.Format is not null)
            {
                Line(text, $"backing file format: {backing.Format}");
            }
        }
    }

    private static void DescribeFeatures(StringBuilder text, Qcow2Header header, BitmapDirectory bitmaps)
    {
        Line(text, "Format specific information:");
        Line(text, $"    compat: {(header.Version == 2 ? "0.10" : "1.1")}");
        Line(text, $"    compression type: {(header.CompressionType == 0 ? "zlib" : "zstd")}");
        if (header.Version >= 3)
        {
            Line(text, $"    lazy refcounts: {Word(header.HasCompatible(FeatureBits.LazyRefcounts))}");
        }

        DescribeBitmaps(text, bitmaps.Bitmaps);
        Line(text, $"    refcount bits: {1 << header.RefcountOrder}");
        if (header.HasDataFile)
        {
            if (header.DataFileName is { } dataFile)
            {
                Line(text, $"    data file: {dataFile}");
            }

            Line(text, $"    data file raw: {Word((header.AutoclearFeatures & FeatureBits.RawExternalData) != 0)}");
        }

        if (header.Version >= 3)
        {
            Line(text, $"    corrupt: {Word(header.HasIncompatible(FeatureBits.Corrupt))}");
            Line(text, $"    extended l2: {Word(header.HasIncompatible(FeatureBits.ExtendedL2))}");
        }
    }

    private static void DescribeBitmaps(StringBuilder text, IReadOnlyList<StoredBitmap> bitmaps)
    {
        if (bitmaps.Count > 0)
        {
            Line(text, "    bitmaps:");
        }

        for (int i = 0; i < bitmaps.Count; i++)
        {
            Line(text, $"        [{i}]:");
            Line(text, "            flags:");
            int number = 0;
            foreach (string flag in InfoJson.FlagNames(bitmaps[i]))
            {
                Line(text, $"                [{number++}]: {flag}");
            }

            Line(text, $"            name: {bitmaps[i].Name}");
            Line(text, $"            granularity: {bitmaps[i].Granularity}");
        }
    }

    private static string Word(bool value) => value ? "true" : "false";

    // Names come out of the image.
    private static void Line(StringBuilder text, string line) => text.Append(SnapshotListText.Printable(line)).Append('\n');
}
