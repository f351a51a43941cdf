using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// Changes single fields of a header in place. All of them lie in the first 512 bytes, which storage writes whole or not at all, so that
/// fields which belong together change together. Each change is flushed; if it fails, nobody knows what the header says, and the write-back
/// of metadata is poisoned.
/// </summary>
internal static class HeaderUpdate
{
    private const int SectorSize = 512;

    internal static ValueTask WriteSizeAsync(StorageFile file, WriteBackOrder order, long size) =>
        WriteAsync(file, order, Qcow2HeaderFields.Size, 8, bytes => BinaryPrimitives.WriteInt64BigEndian(bytes, size));

    internal static ValueTask WriteL1TableAsync(StorageFile file, WriteBackOrder order, long offset, int entries) =>
        WriteAsync(file, order, Qcow2HeaderFields.L1Size, Qcow2HeaderFields.L1TableOffset + 8 - Qcow2HeaderFields.L1Size, bytes =>
        {
            BinaryPrimitives.WriteInt32BigEndian(bytes, entries);
            BinaryPrimitives.WriteInt64BigEndian(bytes[(Qcow2HeaderFields.L1TableOffset - Qcow2HeaderFields.L1Size)..], offset);
        });

    internal static ValueTask WriteRefcountTableAsync(StorageFile file, WriteBackOrder order, long offset, int clusters) =>
        WriteAsync(file, order, Qcow2HeaderFields.RefcountTableOffset, Qcow2HeaderFields.RefcountTableClusters + 4 - Qcow2HeaderFields.RefcountTableOffset, bytes =>
        {
            BinaryPrimitives.WriteInt64BigEndian(bytes, offset);
            BinaryPrimitives.WriteInt32BigEndian(bytes[(Qcow2HeaderFields.RefcountTableClusters - Qcow2HeaderFields.RefcountTableOffset)..], clusters);
        });

    internal static ValueTask WriteAutoclearFeaturesAsync(StorageFile file, WriteBackOrder order, ulong features) =>
        WriteAsync(file, order, Qcow2HeaderFields.AutoclearFeatures, 8, bytes => BinaryPrimitives.WriteUInt64BigEndian(bytes, features));

    /// <summary>
    /// Puts other tables in force with one write of the file's first sector: see <see cref="ShadowChange"/>. What the sector says besides
    /// <paramref name="next"/> stays. The new tables are on disk.
    /// </summary>
    /// <param name="sector">The file's first 512 bytes as they are now; changed here.</param>
    internal static ValueTask WriteSwitchAsync(StorageFile file, WriteBackOrder order, ReadOnlyMemory<byte> sector, HeaderSwitch next) =>
        WriteAsync(file, order, 0, SectorSize, bytes =>
        {
            sector.Span.CopyTo(bytes);
            next.Encode(bytes);
        });

    /// <summary>Reads what <see cref="WriteSwitchAsync"/> starts from.</summary>
    internal static async ValueTask<byte[]> ReadFirstSectorAsync(StorageFile file)
    {
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(SectorSize);
        try
        {
            await file.ReadAsync(0, buffer.Memory[..SectorSize]);
            return buffer.GetSpan()[..SectorSize].ToArray();
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }

    private static async ValueTask WriteAsync(StorageFile file, WriteBackOrder order, int offset, int length, SpanAction encode)
    {
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(length);
        try
        {
            encode(buffer.GetSpan()[..length]);
            await file.WriteAsync(offset, buffer.Memory[..length]);
            await file.FlushAsync();
        }
        catch (BlockIOException error)
        {
            order.Poison(error);
            throw;
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }

    private delegate void SpanAction(Span<byte> bytes);
}
