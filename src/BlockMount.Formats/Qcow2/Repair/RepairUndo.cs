using System.Buffers.Binary;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>Takes a repair back: the image is, bit by bit, what it was before. May be interrupted and repeated.</summary>
public static class RepairUndo
{
    /// <summary>Checks that the undo file belongs to the image and that nobody has used it since, then restores it.</summary>
    /// <param name="undo">Opened for writing: that an undo began is noted there.</param>
    /// <exception cref="ImageFormatException">The undo file is none, belongs to another image, or the image has changed since the repair.</exception>
    public static async ValueTask RestoreAsync(StorageFile undo, StorageFile image)
    {
        byte[] start = new byte[UndoRecord.StartBytes];
        await undo.ReadAsync(0, start);
        if (!UndoRecord.TryDecodeStart(start, out long originalLength, out byte[] header))
        {
            throw new ImageFormatException($"'{undo.Name}' is no undo file of a repair");
        }

        (List<(long Start, long End)> ranges, long end, byte[]? fingerprint, bool begun) = await ScanAsync(undo);
        await RefuseOthersAsync(undo, image, header, originalLength);
        if (!begun)
        {
            if (fingerprint is not null && !(await ImageFingerprint.ComputeAsync(image, ranges)).AsSpan().SequenceEqual(fingerprint))
            {
                throw new ImageFormatException(
                    $"'{image.Name}' has been changed since the repair that wrote '{undo.Name}'", "Undoing would destroy what was written since; nothing was done");
            }

            await undo.WriteAsync(end, new UndoRecord(UndoRecordKind.UndoBegun, 0, []).Encode());
            await undo.FlushAsync();
        }

        await WriteBackAsync(undo, image, end);
        if (image.Length != originalLength)
        {
            await image.ResizeAsync(originalLength);
        }

        await image.FlushAsync();
    }

    private static async ValueTask RefuseOthersAsync(StorageFile undo, StorageFile image, byte[] header, long originalLength)
    {
        byte[] now = new byte[UndoRecord.ImageHeaderBytes];
        await image.ReadAsync(0, now);
        // What no repair changes: magic to cluster_bits, and the size.
        bool same = now.AsSpan(0, Qcow2HeaderFields.CryptMethod).SequenceEqual(header.AsSpan(0, Qcow2HeaderFields.CryptMethod));
        if (!same || image.Length < originalLength)
        {
            throw new ImageFormatException(
                $"'{undo.Name}' belongs to another image than '{image.Name}': that one had {originalLength} bytes and a virtual size of {BinaryPrimitives.ReadInt64BigEndian(header.AsSpan(Qcow2HeaderFields.Size))}");
        }
    }

    private static async ValueTask<(List<(long Start, long End)> Ranges, long End, byte[]? Fingerprint, bool Begun)> ScanAsync(StorageFile undo)
    {
        List<(long Start, long End)> ranges = [];
        byte[]? fingerprint = null;
        bool begun = false;
        long position = UndoRecord.StartBytes;
        while (await ReadAsync(undo, position) is { } record)
        {
            switch (record.Kind)
            {
                case UndoRecordKind.OldContent:
                    ranges.Add((record.Offset, record.Offset + record.Content.Length));
                    break;
                case UndoRecordKind.Sealed:
                    fingerprint = record.Content;
                    break;
                case UndoRecordKind.UndoBegun:
                    begun = true;
                    break;
                default:
                    throw new ImageFormatException($"'{undo.Name}' has a record of unknown kind {(uint)record.Kind} at {position}");
            }

            position += record.Encode().Length;
        }

        return (Merge(ranges), position, fingerprint, begun);
    }

    private static async ValueTask WriteBackAsync(StorageFile undo, StorageFile image, long end)
    {
        long position = UndoRecord.StartBytes;
        while (position < end && await ReadAsync(undo, position) is { } record)
        {
            if (record.Kind == UndoRecordKind.OldContent && record.Content.Length > 0)
            {
                await image.WriteAsync(record.Offset, record.Content);
            }

            position += record.Encode().Length;
        }
    }

    private static async ValueTask<UndoRecord?> ReadAsync(StorageFile undo, long position)
    {
        if (position + UndoRecord.PrefixBytes > undo.Length)
        {
            return null;
        }

        byte[] prefix = new byte[UndoRecord.PrefixBytes];
        await undo.ReadAsync(position, prefix);
        long length = UndoRecord.StoredBytes(prefix);
        if (length < 0 || position + length > undo.Length)
        {
            return null;
        }

        byte[] bytes = new byte[length];
        await undo.ReadAsync(position, bytes);
        return UndoRecord.Decode(bytes);
    }

    // As the log kept them when it was sealed: ascending, neighbours joined.
    private static List<(long Start, long End)> Merge(List<(long Start, long End)> ranges)
    {
        List<(long Start, long End)> merged = [];
        foreach ((long start, long end) in ranges.OrderBy(range => range.Start))
        {
            if (merged.Count > 0 && start <= merged[^1].End)
            {
                merged[^1] = (merged[^1].Start, Math.Max(end, merged[^1].End));
            }
            else
            {
                merged.Add((start, end));
            }
        }

        return merged;
    }
}
