using BlockMount.Base;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Allocation;

/// <summary>
/// Packs compressed streams back to back, at any byte, into host clusters (qcow2 specification, "Compressed Clusters Descriptor"). Each stream
/// has one reference to each cluster that it touches: usually one, two where it runs on into the next. Runs under the image's metadata mutex.
/// <para>Only the end of the open cluster is ever handed out. What streams leave behind inside a cluster is used again when all of them are
/// gone and the cluster is free; a cluster that becomes free is open no longer.</para>
/// </summary>
public sealed class StreamSpace
{
    private readonly Geometry _geometry;
    private readonly ClusterAllocator _allocator;
    private readonly RefcountTable _refcounts;

    // Where the next stream goes: inside the open cluster, never at its start. 0: no cluster is open.
    private long _next;

    public StreamSpace(Geometry geometry, ClusterAllocator allocator, RefcountTable refcounts)
    {
        _geometry = geometry;
        _allocator = allocator;
        _refcounts = refcounts;
        allocator.ClusterFreed = CloseIfOpen;
    }

    /// <summary>Takes <paramref name="length"/> bytes, less than a cluster. On failure nothing was taken.</summary>
    /// <returns>Host offset of the first byte.</returns>
    /// <exception cref="BlockIOException">EFBIG: the place is out of a descriptor's reach. Otherwise the storage failed.</exception>
    public async ValueTask<long> AllocateAsync(int length)
    {
        long offset = await IsShareableAsync() ? _next : 0;
        int room = offset == 0 ? 0 : _geometry.ClusterSize - _geometry.OffsetInCluster(offset);
        if (room >= length)
        {
            await AddReferenceAsync(_geometry.HostClusterOf(offset));
        }
        else
        {
            offset = await AllocateWithNewClusterAsync(offset, length);
        }

        _next = _geometry.OffsetInCluster(offset + length) == 0 ? 0 : offset + length;
        return offset;
    }

    /// <summary>Gives bytes back that no entry ever pointed to. They are not handed out again before their cluster is free.</summary>
    public ValueTask ReleaseAsync(long offset, int length) => _allocator.ReleaseAsync(_geometry.HostClustersOf(offset, length));

    // The new cluster's only reference is the stream's.
    private async ValueTask<long> AllocateWithNewClusterAsync(long offset, int length)
    {
        (HostRun run, _) = await _allocator.AllocateAsync(1);
        try
        {
            long start = _geometry.OffsetOf(run.Start);
            bool runsOn = offset != 0 && _geometry.HostClusterOf(offset) + 1 == run.Start;
            offset = runsOn ? offset : start;
            if (offset + length > L2Entry.CompressedOffsetEnd(_geometry.ClusterBits))
            {
                throw new BlockIOException(
                    Errno.EFBIG, $"compressed write to host offset {offset}, which an entry of clusters of {_geometry.ClusterSize} bytes cannot name");
            }

            if (runsOn)
            {
                await AddReferenceAsync(_geometry.HostClusterOf(offset));
            }

            return offset;
        }
        catch
        {
            await _allocator.ReleaseAsync(run);
            throw;
        }
    }

    private async ValueTask<bool> IsShareableAsync() =>
        _next != 0 && await _refcounts.GetAsync(_geometry.HostClusterOf(_next)) < _geometry.RefcountMax;

    private async ValueTask AddReferenceAsync(HostCluster cluster) => await _refcounts.SetAsync(cluster, await _refcounts.GetAsync(cluster) + 1);

    private void CloseIfOpen(HostCluster freed)
    {
        if (_next != 0 && _geometry.HostClusterOf(_next) == freed)
        {
            _next = 0;
        }
    }
}
