using System.Buffers.Binary;
using System.Diagnostics;
using System.Text;
using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2;

/// <summary>
/// Makes new qcow2 images. The order of writes does not matter: nobody knows the file yet, and the header, which makes it an
/// image, comes last.
/// </summary>
public static class Qcow2Create
{
    private const int StepBytes = 1 << 20;

    /// <summary>
    /// Writes an image into <paramref name="file"/>, which is new and empty, or a block device that is long enough. Flushes.
    /// Does not close the file.
    /// </summary>
    /// <param name="dataFile">The external data file, new and empty, if the options name one; otherwise null. Flushed before the image.</param>
    /// <param name="hasNoName">Nobody can find the file before this returns: then its header need not come last.</param>
    /// <exception cref="ImageFormatException">The options are not possible together; nothing was written.</exception>
    /// <exception cref="BlockIOException">Writing failed: the file is not an image.</exception>
    public static async ValueTask CreateAsync(StorageFile file, Qcow2CreateOptions options, StorageFile? dataFile = null, bool hasNoName = false)
    {
        Debug.Assert(dataFile is null == options.DataFile is null);
        (Qcow2CreateLayout layout, byte[] header) = Plan(options);
        if (dataFile is not null)
        {
            await FillDataFileAsync(dataFile, options);
        }

        await MakeRoomAsync(file, options, layout);
        await WriteRefcountTableAsync(file, options, layout);
        await WriteRefcountBlocksAsync(file, options, layout);
        if (layout.L2Tables > 0)
        {
            await WriteGuestTablesAsync(file, options, layout);
            await PreallocationFill.RunAsync(
                file, options.Preallocation, Offset(options, layout.DataStart), Offset(options, layout.DataClusters));
        }

        if (!hasNoName)
        {
            // After a crash there is a whole image or none.
            await file.FlushAsync();
        }

        await file.WriteAsync(0, header);
        await file.FlushAsync();
    }

    /// <summary>Finds everything that can be wrong with the options, without a file.</summary>
    /// <exception cref="ImageFormatException">Names the option, its value and the limit.</exception>
    public static void CheckPossible(Qcow2CreateOptions options) => Plan(options);

    private static (Qcow2CreateLayout Layout, byte[] Header) Plan(Qcow2CreateOptions options)
    {
        options.Validate();
        var layout = Qcow2CreateLayout.For(options);
        return (layout, Qcow2HeaderWriter.Write(HeaderFor(options, layout)));
    }

    private static async ValueTask FillDataFileAsync(StorageFile dataFile, Qcow2CreateOptions options)
    {
        await dataFile.ResizeAsync(options.RoundedSize);
        await PreallocationFill.RunAsync(dataFile, options.Preallocation, 0, options.RoundedSize);
        await dataFile.FlushAsync();
    }

    // Entries of L1 and L2 have the same form here: the offset of the n-th cluster of an area, with COPIED. The second word of an extended
    // entry is 0: space is there, and all subclusters are unallocated, so that a backing file shows through.
    private static async ValueTask WriteGuestTablesAsync(StorageFile file, Qcow2CreateOptions options, Qcow2CreateLayout layout)
    {
        long dataStart = options.DataFile is null ? layout.DataStart : 0;
        await WriteEntriesAsync(file, Offset(options, layout.L1Start), layout.L2Tables, i => Entry(options, layout.L2Start, i));
        int words = 1 << (options.L2EntryBits - 3);
        await WriteEntriesAsync(
            file,
            Offset(options, layout.L2Start),
            layout.GuestClusters * words,
            i => i % words == 0 ? Entry(options, dataStart, i / words) : 0);
    }

    private static ulong IncompatibleFeatures(Qcow2CreateOptions options) =>
        (options.Compression == Qcow2Compression.Zlib ? 0 : FeatureBits.CompressionType)
        | (options.ExtendedL2 ? FeatureBits.ExtendedL2 : 0)
        | (options.DataFile is null ? 0 : FeatureBits.ExternalDataFile);

    private static List<HeaderExtension> Extensions(Qcow2CreateOptions options)
    {
        List<HeaderExtension> extensions = [];
        if (options.DataFile is { } name)
        {
            extensions.Add(new HeaderExtension(HeaderExtensionType.DataFileName, Encoding.UTF8.GetBytes(name)));
        }

        if (options.Version > 2)
        {
            extensions.Add(FeatureNameTable.Create());
        }

        return extensions;
    }

    private static Qcow2Header HeaderFor(Qcow2CreateOptions options, Qcow2CreateLayout layout) => new()
    {
        Version = options.Version,
        ClusterBits = options.ClusterBits,
        Size = options.RoundedSize,
        L1Size = (int)layout.L1Entries,
        L1TableOffset = Offset(options, layout.L1Start),
        RefcountTableOffset = Offset(options, Qcow2CreateLayout.RefcountTableStart),
        RefcountTableClusters = (int)layout.RefcountTableClusters,
        RefcountOrder = options.RefcountOrder,
        IncompatibleFeatures = IncompatibleFeatures(options),
        CompatibleFeatures = options.LazyRefcounts ? FeatureBits.LazyRefcounts : 0,
        AutoclearFeatures = options.DataFileRaw ? FeatureBits.RawExternalData : 0,
        CompressionType = (byte)options.Compression,
        Backing = options.Backing,
        Extensions = Extensions(options),
    };

    // An empty file is grown and so reads as zeros; a block device holds something old where the tables go.
    private static async ValueTask MakeRoomAsync(StorageFile file, Qcow2CreateOptions options, Qcow2CreateLayout layout)
    {
        long length = Offset(options, layout.TotalClusters);
        long oldLength = file.Length;
        if (oldLength > 0)
        {
            if (oldLength < length)
            {
                throw new BlockIOException(
                    Errno.ENOSPC, $"creating an image in '{file.Name}', which has {oldLength} bytes and needs {length}");
            }

            await file.WriteZeroesAsync(0, length, mayUnmap: true);
            return;
        }

        await file.ResizeAsync(length);
    }

    private static ValueTask WriteRefcountTableAsync(StorageFile file, Qcow2CreateOptions options, Qcow2CreateLayout layout) =>
        WriteEntriesAsync(
            file,
            Offset(options, Qcow2CreateLayout.RefcountTableStart),
            layout.RefcountBlocks,
            i => (ulong)Offset(options, layout.RefcountBlocksStart + i));

    // Every cluster of the file has the refcount 1.
    private static async ValueTask WriteRefcountBlocksAsync(StorageFile file, Qcow2CreateOptions options, Qcow2CreateLayout layout)
    {
        int order = options.RefcountOrder;
        int perStep = StepBytes * 8 >> order;
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(StepBytes);
        try
        {
            buffer.GetSpan().Clear();
            FillWithOnes(buffer.GetSpan(), order, (int)Math.Min(layout.TotalClusters, perStep));
            long offset = Offset(options, layout.RefcountBlocksStart);
            for (long left = layout.TotalClusters; left > 0; left -= perStep)
            {
                int count = (int)Math.Min(left, perStep);
                if (count < perStep && left < layout.TotalClusters)
                {
                    // The last step after full ones: nothing may be left of those.
                    buffer.GetSpan().Clear();
                    FillWithOnes(buffer.GetSpan(), order, count);
                }

                int length = (int)((((long)count << order) + 7) / 8);
                await file.WriteAsync(offset, buffer.Memory[..length]);
                offset += length;
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }

    private static void FillWithOnes(Span<byte> block, int order, int count)
    {
        for (int i = 0; i < count; i++)
        {
            RefcountEntry.Write(block, i, order, 1);
        }
    }

    private static async ValueTask WriteEntriesAsync(StorageFile file, long offset, long count, Func<long, ulong> entryAt)
    {
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(StepBytes);
        try
        {
            for (long first = 0; first < count;)
            {
                int entries = (int)Math.Min(count - first, StepBytes / sizeof(ulong));
                Encode(buffer.GetSpan(), first, entries, entryAt);
                await file.WriteAsync(offset, buffer.Memory[..(entries * sizeof(ulong))]);
                offset += entries * sizeof(ulong);
                first += entries;
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }

    private static void Encode(Span<byte> target, long first, int entries, Func<long, ulong> entryAt)
    {
        for (int i = 0; i < entries; i++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(target[(i * sizeof(ulong))..], entryAt(first + i));
        }
    }

    private static ulong Entry(Qcow2CreateOptions options, long areaStart, long index)
    {
        long offset = Offset(options, areaStart + index);
        Debug.Assert(offset < Qcow2Limits.HostOffsetEnd);
        return L2Entry.ForData(offset).Raw;
    }

    private static long Offset(Qcow2CreateOptions options, long clusters) => clusters << options.ClusterBits;
}
