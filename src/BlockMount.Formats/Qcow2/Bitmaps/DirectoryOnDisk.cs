using BlockMount.Base.Buffers;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Bitmaps;

/// <summary>
/// Where the bitmap directory of an image that is open for writing lies: replaces it by another one at one instant, or changes flags in place. Under the
/// metadata mutex.
/// </summary>
internal sealed class DirectoryOnDisk
{
    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly GuestTables _tables;
    private readonly MetadataWriter _writer;

    // Registered as such with the overlap checks; null if there is none.
    private HostRun? _location;

    /// <param name="directory">From <see cref="LoadAsync"/>.</param>
    internal DirectoryOnDisk(StorageFile file, Geometry geometry, GuestTables tables, MetadataWriter writer, BitmapDirectory directory)
    {
        _file = file;
        _geometry = geometry;
        _tables = tables;
        _writer = writer;
        if (directory.Length > 0)
        {
            _location = new HostRun(geometry.HostClusterOf(directory.Offset), geometry.ClustersFor(directory.Length));
        }
    }

    /// <summary>
    /// Reads the directory of an image that is being opened for writing, and registers its clusters. A directory in the place of other tables, which are
    /// registered already, is none.
    /// </summary>
    internal static async ValueTask<BitmapDirectory> LoadAsync(StorageFile file, Qcow2Header header, Geometry geometry, OverlapChecks checks)
    {
        BitmapDirectory directory = await BitmapDirectory.LoadAsync(file, header);
        if (directory.Length == 0)
        {
            return directory;
        }

        if (checks.DataLength(directory.Offset, directory.Length) < directory.Length)
        {
            return BitmapDirectory.Lost($"the bitmap directory at {directory.Offset} overlaps other metadata");
        }

        checks.Add(new HostRun(geometry.HostClusterOf(directory.Offset), geometry.ClustersFor(directory.Length)), MetadataKinds.BitmapDirectory);
        return directory;
    }

    /// <summary>The same directory with tables that were opened anew.</summary>
    internal DirectoryOnDisk MoveTo(GuestTables tables, MetadataWriter writer)
    {
        if (_location is { } location)
        {
            writer.Checks.Add(location, MetadataKinds.BitmapDirectory);
        }

        return new DirectoryOnDisk(_file, _geometry, tables, writer, BitmapDirectory.Empty) { _location = _location };
    }

    /// <summary>
    /// Puts another directory in force: what <paramref name="writer"/> has written and the new directory are on disk before the header names
    /// it; what it replaces is freed after (I4). On failure nothing has changed, unless the header could not be written: then nobody knows.
    /// </summary>
    /// <param name="dropped">A bitmap that is not in the new directory; its clusters are freed.</param>
    /// <exception cref="ImageFormatException">The directory or the header would be too long.</exception>
    internal async ValueTask ReplaceAsync(IReadOnlyList<StoredBitmap> next, BitmapWriter writer, StoredBitmap? dropped)
    {
        HostRun? location = null;
        byte[] bytes = BitmapDirectory.Encode(next);
        IReadOnlyList<HostRun> unlinked;
        try
        {
            BitmapLimits.CheckDirectory(bytes, _file.Name);
            unlinked = dropped is null || next.Any(bitmap => bitmap.TableOffset == dropped.TableOffset)
                ? []
                : await BitmapPieces.ClustersOfAsync(_file, _geometry, _writer.Checks, dropped);
            if (next.Count > 0)
            {
                location = new HostRun(_geometry.HostClusterOf(await writer.WriteContiguousAsync(bytes)), _geometry.ClustersFor(bytes.Length));
                _writer.Checks.Add(location.Value, MetadataKinds.BitmapDirectory);
            }

            await _writer.Order.WriteBackAsync(_tables.L1);
            await _file.FlushAsync();
        }
        catch
        {
            await GiveBackAsync(writer, location);
            throw;
        }

        await NameInHeaderAsync(next.Count, location, bytes.Length, writer);
        Unlink(unlinked);
        _location = location;
    }

    /// <summary>
    /// Writes entries that differ from the stored ones in their flags only, and flushes: a flag is four bytes that no sector border divides, and any part of the
    /// change leaves a valid directory.
    /// </summary>
    internal async ValueTask WriteInPlaceAsync(IReadOnlyList<StoredBitmap> bitmaps)
    {
        if (_location is not { } location)
        {
            return;
        }

        byte[] bytes = BitmapDirectory.Encode(bitmaps);
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(bytes.Length);
        try
        {
            bytes.CopyTo(buffer.Memory);
            _writer.Checks.CheckTable(MetadataKinds.BitmapDirectory, _geometry.OffsetOf(location.Start), bytes.Length);
            await _file.WriteAsync(_geometry.OffsetOf(location.Start), buffer.Memory[..bytes.Length]);
            await _file.FlushAsync();
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }

    private async ValueTask NameInHeaderAsync(int count, HostRun? location, int length, BitmapWriter writer)
    {
        try
        {
            await _writer.RewriteHeaderAsync(header => location is { } run
                ? header.WithExtension(
                    HeaderExtensionType.Bitmaps, new BitmapsExtension((uint)count, (ulong)length, (ulong)_geometry.OffsetOf(run.Start)).ToBytes())
                    with
                { AutoclearFeatures = header.AutoclearFeatures | FeatureBits.Bitmaps }
                : header.WithExtension(HeaderExtensionType.Bitmaps, null) with { AutoclearFeatures = header.AutoclearFeatures & ~FeatureBits.Bitmaps });
        }
        catch (ImageFormatException)
        {
            // Refused before anything was written. After any other failure nobody knows which directory the header names: both stay.
            await GiveBackAsync(writer, location);
            throw;
        }
    }

    private void Unlink(IReadOnlyList<HostRun> unlinked)
    {
        foreach (HostRun run in unlinked)
        {
            _writer.Unlink(run);
        }

        if (_location is { } old)
        {
            _writer.Checks.Remove(old, MetadataKinds.BitmapDirectory);
            _writer.Unlink(old);
        }
    }

    private ValueTask GiveBackAsync(BitmapWriter writer, HostRun? location)
    {
        if (location is { } run)
        {
            _writer.Checks.Remove(run, MetadataKinds.BitmapDirectory);
        }

        return writer.GiveBackAsync();
    }
}
