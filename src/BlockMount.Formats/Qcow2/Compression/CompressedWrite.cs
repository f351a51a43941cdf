using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Base.Buffers;
using BlockMount.Formats.Qcow2.Allocation;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Compression;

/// <summary>
/// Writes whole guest clusters compressed. What the cluster was before does not matter: the stream gets a place of its own, and the old
/// one goes through the quarantine like that of any overwritten cluster. (QEMU answers EIO where a cluster is allocated already.)
/// <para>The rules of Metadata/README.md are kept as by every allocating write: the guest cluster is locked from allocation to link, the
/// stream is written before the entry changes in memory (I1) and flushed before the entry reaches the disk (I2), the references of its host
/// clusters are there before (I3).</para>
/// </summary>
internal sealed class CompressedWrite
{
    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly GuestTables _tables;
    private readonly MetadataWriter _writer;
    private readonly StreamSpace _space;
    private readonly CompressedClusters _readers;
    private readonly Lazy<ClusterCompressor> _compressor;

    internal CompressedWrite(
        StorageFile file,
        Geometry geometry,
        GuestTables tables,
        MetadataWriter writer,
        StreamSpace space,
        CompressedClusters readers,
        byte compressionType)
    {
        _file = file;
        _geometry = geometry;
        _tables = tables;
        _writer = writer;
        _space = space;
        _readers = readers;
        // Most images are never written to in this way; their users need no compressor.
        _compressor = new Lazy<ClusterCompressor>(() => ClusterCompressor.For(compressionType));
    }

    /// <summary>See <see cref="FormatDriver.WriteCompressedAsync"/>. Compresses on the caller's thread, before any lock is taken.</summary>
    internal async ValueTask<bool> WriteAsync(GuestCluster cluster, ReadOnlyMemory<byte> content)
    {
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(_geometry.ClusterSize);
        try
        {
            int length = Compress(content.Span, buffer.GetSpan()[.._geometry.ClusterSize]);
            if (length > 0)
            {
                await StoreAsync(cluster, buffer.Memory[..length]);
            }

            return length > 0;
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }

    // A stream that is no shorter than the cluster saves nothing, and its length may not fit the descriptor.
    private int Compress(ReadOnlySpan<byte> content, Span<byte> target)
    {
        target = target[..(_geometry.ClusterSize - 1)];
        if (content.Length == _geometry.ClusterSize)
        {
            return _compressor.Value.Compress(content, target);
        }

        // The end of the disk; what lies behind it in the cluster reads as zeros if the disk grows.
        AlignedBuffer whole = AlignedBufferPool.Shared.Rent(_geometry.ClusterSize);
        try
        {
            Span<byte> padded = whole.GetSpan()[.._geometry.ClusterSize];
            content.CopyTo(padded);
            padded[content.Length..].Clear();
            return _compressor.Value.Compress(padded, target);
        }
        finally
        {
            AlignedBufferPool.Shared.Return(whole);
        }
    }

    private async ValueTask StoreAsync(GuestCluster cluster, ReadOnlyMemory<byte> stream)
    {
        RangeLock.Entry guestLock = await _writer.GuestClusters.LockAsync(cluster.Index, 1);
        try
        {
            long offset = await AllocateAsync(cluster, stream.Length);
            try
            {
                await _file.WriteAsync(offset, stream);
                await LinkAsync(cluster, offset, stream.Length);
            }
            catch
            {
                await AbandonAsync(offset, stream.Length);
                throw;
            }
        }
        finally
        {
            _writer.GuestClusters.Release(guestLock);
        }
    }

    private async ValueTask<long> AllocateAsync(GuestCluster cluster, int length)
    {
        using AsyncMutex.Releaser held = await _writer.Mutex.LockAsync();
        await _writer.RelieveAsync();
        await _writer.L2Tables.EnsureWritableAsync(cluster);
        long offset = await _space.AllocateAsync(length);
        // A reader that was under way when an earlier stream here lost its entry may have kept that one. It has left by now (I5).
        _readers.Forget(offset);
        return offset;
    }

    private async ValueTask LinkAsync(GuestCluster cluster, long offset, int length)
    {
        using AsyncMutex.Releaser held = await _writer.Mutex.LockAsync();
        MetadataSlice slice = await _tables.GetSliceForWriteAsync(cluster);
        int index = _tables.IndexInSlice(cluster);
        L2Entry old = _tables.Read(slice, index);
        _tables.Write(slice, index, L2Entry.ForCompressed(offset, length, _geometry.ClusterBits));
        _writer.Unlink(old);
        _writer.Order.TablesAfterFlush();
    }

    private async ValueTask AbandonAsync(long offset, int length)
    {
        try
        {
            using AsyncMutex.Releaser held = await _writer.Mutex.LockAsync();
            await _space.ReleaseAsync(offset, length);
        }
        catch (BlockIOException)
        {
            // Leaked references are harmless, and the write's own error is the one to report.
        }
    }
}
