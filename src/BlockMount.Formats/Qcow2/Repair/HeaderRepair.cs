using System.Buffers.Binary;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>
/// Changes fields of the header in place, each time between two flushes. They lie in the first 512 bytes, which storage writes whole or not at all, so that
/// fields that belong together change together.
/// </summary>
internal static class HeaderRepair
{
    internal static ValueTask WriteRefcountTableAsync(StorageFile file, long offset, int clusters)
    {
        byte[] fields = new byte[12];
        BinaryPrimitives.WriteInt64BigEndian(fields, offset);
        BinaryPrimitives.WriteInt32BigEndian(fields.AsSpan(8), clusters);
        return WriteAsync(file, Qcow2HeaderFields.RefcountTableOffset, fields);
    }

    internal static ValueTask WriteL1OffsetAsync(StorageFile file, long offset) => WriteFieldAsync(file, Qcow2HeaderFields.L1TableOffset, (ulong)offset);

    internal static ValueTask WriteSnapshotTableAsync(StorageFile file, int count, long offset)
    {
        byte[] fields = new byte[12];
        BinaryPrimitives.WriteInt32BigEndian(fields, count);
        BinaryPrimitives.WriteInt64BigEndian(fields.AsSpan(4), offset);
        return WriteAsync(file, Qcow2HeaderFields.SnapshotCount, fields);
    }

    internal static ValueTask WriteAutoclearAsync(StorageFile file, ulong features) => WriteFieldAsync(file, Qcow2HeaderFields.AutoclearFeatures, features);

    internal static ValueTask WriteIncompatibleAsync(StorageFile file, ulong features) =>
        WriteFieldAsync(file, Qcow2HeaderFields.IncompatibleFeatures, features);

    private static ValueTask WriteFieldAsync(StorageFile file, int field, ulong value)
    {
        byte[] bytes = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, value);
        return WriteAsync(file, field, bytes);
    }

    private static async ValueTask WriteAsync(StorageFile file, int offset, byte[] bytes)
    {
        await file.FlushAsync();
        await file.WriteAsync(offset, bytes);
        await file.FlushAsync();
    }
}
