using System.Buffers.Binary;
using BlockMount.Base.Buffers;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>
/// Changes single fields of a header in place. All of them lie in the first 512 bytes, which storage writes whole or not at all, so that
/// fields which belong together change together. The caller flushes.
/// </summary>
internal static class HeaderUpdate
{
    // qcow2 specification, "Header": byte offsets.
    private const int SizeOffset = 24;
    private const int L1SizeOffset = 36;
    private const int L1TableOffsetOffset = 40;
    private const int RefcountTableOffsetOffset = 48;
    private const int RefcountTableClustersOffset = 56;
    private const int AutoclearFeaturesOffset = 88;

    internal static ValueTask WriteSizeAsync(StorageFile file, long size) =>
        WriteAsync(file, SizeOffset, 8, bytes => BinaryPrimitives.WriteInt64BigEndian(bytes, size));

    internal static ValueTask WriteL1TableAsync(StorageFile file, long offset, int entries) =>
        WriteAsync(file, L1SizeOffset, L1TableOffsetOffset + 8 - L1SizeOffset, bytes =>
        {
            BinaryPrimitives.WriteInt32BigEndian(bytes, entries);
            BinaryPrimitives.WriteInt64BigEndian(bytes[(L1TableOffsetOffset - L1SizeOffset)..], offset);
        });

    internal static ValueTask WriteRefcountTableAsync(StorageFile file, long offset, int clusters) =>
        WriteAsync(file, RefcountTableOffsetOffset, RefcountTableClustersOffset + 4 - RefcountTableOffsetOffset, bytes =>
        {
            BinaryPrimitives.WriteInt64BigEndian(bytes, offset);
            BinaryPrimitives.WriteInt32BigEndian(bytes[(RefcountTableClustersOffset - RefcountTableOffsetOffset)..], clusters);
        });

    internal static ValueTask WriteAutoclearFeaturesAsync(StorageFile file, ulong features) =>
        WriteAsync(file, AutoclearFeaturesOffset, 8, bytes => BinaryPrimitives.WriteUInt64BigEndian(bytes, features));

    private static async ValueTask WriteAsync(StorageFile file, int offset, int length, SpanAction encode)
    {
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(length);
        try
        {
            encode(buffer.GetSpan()[..length]);
            await file.WriteAsync(offset, buffer.Memory[..length]);
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }

    private delegate void SpanAction(Span<byte> bytes);
}
