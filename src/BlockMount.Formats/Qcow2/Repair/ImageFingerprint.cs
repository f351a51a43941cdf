using System.Buffers.Binary;
using System.Security.Cryptography;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>
/// A hash over what changes when somebody uses an image: length, header, L1 table, refcount table and blocks, and the given ranges. Guest data that is
/// overwritten in place is not in it, and does not matter to an undo.
/// </summary>
internal static class ImageFingerprint
{
    private const int ChunkBytes = 1 << 20;

    internal static async ValueTask<byte[]> ComputeAsync(StorageFile image, IReadOnlyList<(long Start, long End)> ranges)
    {
        CheckedLayout layout = await CheckedLayout.ReadAsync(image);
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] length = new byte[8];
        BinaryPrimitives.WriteInt64BigEndian(length, image.Length);
        hash.AppendData(length);
        byte[] chunk = new byte[Math.Min(ChunkBytes, Math.Max(layout.ClusterSize, 64 << 10))];
        await AppendAsync(image, hash, 0, layout.ClusterSize, chunk);
        await AppendAsync(image, hash, layout.L1Offset, layout.L1Entries * 8L, chunk);
        await AppendAsync(image, hash, layout.RefcountTableOffset, layout.RefcountTableBytes, chunk);
        StoredRefcounts refcounts = new(image, layout, new HoleMap(image));
        for (long block = 0; block < refcounts.TableEntries; block++)
        {
            long offset = (long)(await refcounts.TableEntryAsync(block) & StoredRefcounts.OffsetMask & long.MaxValue);
            if (offset != 0)
            {
                await AppendAsync(image, hash, offset, layout.ClusterSize, chunk);
            }
        }

        foreach ((long start, long end) in ranges)
        {
            await AppendAsync(image, hash, start, end - start, chunk);
        }

        return hash.GetHashAndReset();
    }

    private static async ValueTask AppendAsync(StorageFile image, IncrementalHash hash, long offset, long length, byte[] chunk)
    {
        long end = Math.Min(offset + length, image.Length);
        for (long place = offset; place < end; place += chunk.Length)
        {
            Memory<byte> part = chunk.AsMemory(0, (int)Math.Min(chunk.Length, end - place));
            await image.ReadAsync(place, part);
            hash.AppendData(part.Span);
        }
    }
}
