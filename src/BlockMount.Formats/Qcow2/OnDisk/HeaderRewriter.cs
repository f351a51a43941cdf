using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>
/// Changes what a header says beyond single fields: extensions, the backing reference, the version. Every step of
/// <see cref="HeaderRewritePlan"/> is flushed. Unknown extensions, header bytes and compatible bits are kept.
/// </summary>
internal static class HeaderRewriter
{
    /// <summary>
    /// Reads the header as it is in the file, applies <paramref name="change"/> and writes it. Call under the metadata mutex; what the new header refers to
    /// is on disk. If writing fails, nobody knows which header is in force, and <paramref name="order"/> is poisoned (null
    /// where nobody has the image open).
    /// </summary>
    /// <returns>The header as it is now.</returns>
    /// <exception cref="ImageFormatException">The new header cannot be stored; nothing was changed.</exception>
    /// <exception cref="BlockIOException">The file cannot be read or written.</exception>
    internal static async ValueTask<Qcow2Header> RewriteAsync(StorageFile file, WriteBackOrder? order, Func<Qcow2Header, Qcow2Header> change)
    {
        Qcow2Header old = await Qcow2HeaderReader.LoadAsync(file);
        byte[] cluster = new byte[old.ClusterSize];
        await file.ReadAsync(0, cluster);
        Qcow2Header wanted = Normalise(change(old));
        IReadOnlyList<HeaderWriteStep> steps = HeaderRewritePlan.Make(cluster, wanted);
        try
        {
            foreach (HeaderWriteStep step in steps)
            {
                await WriteAsync(file, step);
            }
        }
        catch (BlockIOException error)
        {
            order?.Poison(error);
            throw;
        }

        return wanted;
    }

    /// <summary>
    /// What matters stands first, so that it lies in the first sector; bitmaps that another program made invalid are dropped; the name
    /// table is as new.
    /// </summary>
    internal static Qcow2Header Normalise(Qcow2Header header)
    {
        bool keepsBitmaps = header.Version >= 3 && (header.AutoclearFeatures & FeatureBits.Bitmaps) != 0;
        List<HeaderExtension> extensions = [.. header.Extensions
            .Where(extension => extension.Type != HeaderExtensionType.FeatureNameTable)
            .Where(extension => extension.Type != HeaderExtensionType.Bitmaps || keepsBitmaps)
            .OrderBy(extension => Rank(extension.Type))];
        if (header.Version >= 3)
        {
            extensions.Add(FeatureNameTable.UsableOrNew(header));
        }

        return header with
        {
            Extensions = extensions,
            HeaderLength = header.Version == 2
                ? Qcow2HeaderFields.Version2Length
                : Qcow2HeaderFields.KnownLength + ((header.UnknownHeaderBytes.Length + 7) & ~7),
        };
    }

    private static int Rank(uint type) => type switch
    {
        HeaderExtensionType.DataFileName => 1,
        HeaderExtensionType.CryptoHeader => 2,
        HeaderExtensionType.Bitmaps => 0,
        _ => 3,
    };

    private static async ValueTask WriteAsync(StorageFile file, HeaderWriteStep step)
    {
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(step.Bytes.Length);
        try
        {
            step.Bytes.CopyTo(buffer.Memory);
            await file.WriteAsync(step.Offset, buffer.Memory[..step.Bytes.Length]);
            await file.FlushAsync();
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }
}
