using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Block.Graph;
using BlockMount.Block.Index;
using BlockMount.Formats;

namespace BlockMount.Block.Nodes;

/// <summary>
/// An image: asks its driver where guest bytes live and moves them between the host file and the caller. Copy-on-write
/// is done by <see cref="CopyOnWrite"/>. Owns its driver, and uses its files and its backing node.
/// </summary>
public sealed class FormatNode : Node
{
    private string _name;

    // All six replaced only in a drained section.
    private FormatDriver _driver;
    private CopyOnWrite _copyOnWrite;
    private Zeroing _zeroing;
    private Node? _backing;
    private DriverSettings? _settings;
    private DetectZeroes _detectZeroes;

    // Replaced only under exclusive use. Null: reads go to the backing node.
    private ChainIndex? _index;
    private long _indexBytes;

    private HighWaterMark _written;

    /// <summary>Takes over <paramref name="driver"/>, which owns its files, and becomes a user of <paramref name="backing"/>.</summary>
    public FormatNode(string name, string fileName, FormatDriver driver, Node? backing)
    {
        _name = name;
        FileName = fileName;
        _driver = driver;
        _copyOnWrite = new CopyOnWrite(this, driver);
        _zeroing = new Zeroing(this, driver);
        if (backing is not null)
        {
            NodeEdge.Attach(this, NodeEdge.BackingRole, backing);
        }
    }

    /// <summary>Takes over <paramref name="driver"/>, which <paramref name="settings"/> have made on the given nodes, and becomes their user.</summary>
    internal FormatNode(string name, FormatDriver driver, DriverSettings settings, Node file, Node? dataFile, Node? backing)
    {
        _name = name;
        FileName = file.FileName;
        _driver = driver;
        _copyOnWrite = new CopyOnWrite(this, driver);
        _zeroing = new Zeroing(this, driver);
        _settings = settings;
        NodeEdge.Attach(this, NodeEdge.FileRole, file);
        if (dataFile is not null)
        {
            NodeEdge.Attach(this, NodeEdge.DataFileRole, dataFile);
        }

        if (backing is not null)
        {
            NodeEdge.Attach(this, NodeEdge.BackingRole, backing);
        }
    }

    /// <inheritdoc/>
    public override string Name => _name;

    /// <inheritdoc/>
    public override string DriverName => _driver.FormatName;

    /// <inheritdoc/>
    public override string FileName { get; }

    /// <inheritdoc/>
    public override long Size => _driver.VirtualSize;

    /// <inheritdoc/>
    public override bool ReadOnly => _driver.ReadOnly;

    /// <inheritdoc/>
    public override long AllocatedBytes => _driver.AllocatedBytes;

    /// <inheritdoc/>
    public override int ClusterSize => _driver.ClusterSize;

    /// <inheritdoc/>
    public override Node? Backing => _backing;

    /// <inheritdoc/>
    public override Storage.StorageFile? FlatFile => _backing is null ? _driver.FlatFile : null;

    /// <inheritdoc/>
    public override IInternalSnapshots? Snapshots => _driver.Snapshots;

    /// <inheritdoc/>
    public override long IndexBytes => _indexBytes;

    /// <inheritdoc/>
    public override bool SupportsBacking => _driver.FormatName == "qcow2";

    /// <inheritdoc/>
    public override long WriteHighestOffset => _written.Value;

    /// <summary>How the driver was made; null for a driver that owns its files, which cannot be opened again.</summary>
    internal DriverSettings? Settings => _settings;

    /// <summary>Whether writes of zeros are stored as data.</summary>
    public DetectZeroes DetectZeroes
    {
        get => _detectZeroes;
        internal set => _detectZeroes = value;
    }

    /// <summary>What the image's header names as its backing file, whatever the node stands on.</summary>
    public BackingReference? BackingReference => _driver.Backing;

    /// <summary>Where this image's bytes are; for an index above, which moves them itself.</summary>
    internal FormatDriver Driver => _driver;

    /// <summary>The map of what lies below; null if there is none.</summary>
    internal ChainIndex? Index => _index;

    /// <inheritdoc/>
    public override void IndexBelow(long bytes)
    {
        _indexBytes = bytes;
        _index = _backing is null ? null : ChainIndex.TryCreate(_backing, bytes);
    }

    /// <inheritdoc/>
    public override async ValueTask ReadAsync(long offset, Memory<byte> buffer)
    {
        using MapLease lease = _driver.EnterLease();
        while (!buffer.IsEmpty)
        {
            Mapping mapping = await _driver.MapAsync(offset, buffer.Length, MapPurpose.Transfer);
            Memory<byte> part = buffer[..(int)mapping.Length];
            switch (mapping.Kind)
            {
                case MappingKind.Data:
                    await mapping.File!.ReadAsync(mapping.FileOffset, part);
                    break;
                case MappingKind.Zero:
                    part.Span.Clear();
                    break;
                case MappingKind.Backing:
                    await ReadBackingAsync(offset, part);
                    break;
                case MappingKind.Compressed:
                    await _driver.ReadCompressedAsync(mapping, offset, part);
                    break;
                default:
                    throw new UnreachableException();
            }

            offset += mapping.Length;
            buffer = buffer[(int)mapping.Length..];
        }
    }

    /// <inheritdoc/>
    public override ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> buffer) =>
        _detectZeroes != DetectZeroes.Off && !buffer.Span.ContainsAnyExcept((byte)0)
            ? ZeroAsync(offset, buffer.Length, _detectZeroes == DetectZeroes.Unmap ? ZeroFlags.MayUnmap : ZeroFlags.None)
            : WriteDataAsync(offset, buffer);

    /// <summary>Writes the bytes as they are, zeros as well.</summary>
    internal async ValueTask WriteDataAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        _written.Note(offset + buffer.Length);
        MapLease lease = _driver.EnterLease();
        try
        {
            while (!buffer.IsEmpty)
            {
                WritePlan plan = await _driver.PrepareWriteAsync(offset, buffer.Length);
                if (plan.MustWait)
                {
                    // Without a lease of our own: it would be one of those that are waited for.
                    lease.Dispose();
                    lease = default;
                    await _driver.OlderRequestsEndedAsync();
                    lease = _driver.EnterLease();
                    continue;
                }

                ReadOnlyMemory<byte> part = buffer[..(int)plan.Length];
                if (plan.Allocation is null)
                {
                    await plan.File.WriteAsync(plan.FileOffset, part);
                }
                else
                {
                    await _copyOnWrite.WriteAsync(plan, plan.Allocation, offset, part);
                }

                offset += plan.Length;
                buffer = buffer[(int)plan.Length..];
            }
        }
        finally
        {
            lease.Dispose();
        }
    }

    /// <inheritdoc/>
    public override async ValueTask WriteCompressedAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        long end = offset + buffer.Length;
        if (!Alignment.IsAligned(offset, ClusterSize) || (end != Size && !Alignment.IsAligned(end, ClusterSize)))
        {
            throw new BlockIOException(
                Errno.EINVAL, $"compressed write of {buffer.Length} bytes at {offset} to '{FileName}', which are not whole clusters of {ClusterSize} bytes");
        }

        _written.Note(end);
        while (!buffer.IsEmpty)
        {
            ReadOnlyMemory<byte> cluster = buffer[..Math.Min(ClusterSize, buffer.Length)];
            bool stored;
            using (MapLease lease = _driver.EnterLease())
            {
                stored = await _driver.WriteCompressedAsync(offset, cluster);
            }

            if (!stored)
            {
                await WriteAsync(offset, cluster);
            }

            offset += cluster.Length;
            buffer = buffer[cluster.Length..];
        }
    }

    /// <inheritdoc/>
    public override ValueTask ZeroAsync(long offset, long length, ZeroFlags flags)
    {
        _written.Note(offset + length);
        return _zeroing.RunAsync(offset, length, Allowed(flags));
    }

    /// <inheritdoc/>
    public override async ValueTask DiscardAsync(long offset, long length)
    {
        WholeClusters range = WholeClusters.Of(offset, length, _driver.ClusterSize, Size);
        if (range.Length > 0 && PassesDiscards)
        {
            using MapLease lease = _driver.EnterLease();
            await _driver.DiscardAsync(range.Offset, range.Length);
        }
    }

    /// <inheritdoc/>
    public override ValueTask FlushAsync() => _driver.FlushAsync();

    /// <inheritdoc/>
    public override async ValueTask<BlockStatus> StatusAsync(long offset, long length, MapPurpose purpose)
    {
        Mapping mapping = await ChainStatus.MapAsync(_driver, offset, length, purpose);
        return mapping.Kind == MappingKind.Backing
            ? await BackingStatusAsync(offset, mapping.Length, purpose)
            : ChainStatus.StatusOf(mapping, depth: 1);
    }

    /// <inheritdoc/>
    public override async ValueTask ResizeAsync(long size, Preallocation preallocation = Preallocation.Off)
    {
        long oldSize = Size;
        // A backing file longer than the old disk must not show through in the new space, not even after a crash. The rest of the old last
        // cluster may hold what an earlier shrink cut off: where it is shared with a snapshot or compressed, this copies it.
        long clusterEnd = Math.Min(size, Alignment.Up(oldSize, _driver.ClusterSize));
        long hiddenEnd = Math.Max(clusterEnd, Math.Min(size, _backing?.Size ?? 0));
        await _driver.ResizeAsync(
            size, hiddenEnd > oldSize ? () => _zeroing.RunAsync(oldSize, hiddenEnd - oldSize, ZeroFlags.MayUnmap) : null, preallocation);
    }

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        try
        {
            await _driver.DisposeAsync();
        }
        finally
        {
            await ReleaseChildrenAsync();
        }
    }

    /// <inheritdoc/>
    internal override ValueTask CopyUpAsync(long offset, long length, Node? bottom) =>
        _backing is null ? ValueTask.CompletedTask : CopyUp.RunAsync(this, _copyOnWrite, offset, length, bottom);

    /// <inheritdoc/>
    internal override void Rename(string name) => _name = name;

    /// <inheritdoc/>
    internal override void OnChildReplaced(NodeEdge edge)
    {
        if (edge.Role == NodeEdge.BackingRole)
        {
            _backing = edge.Child;
        }
    }

    /// <inheritdoc/>
    internal override void OnChildRemoved(NodeEdge edge)
    {
        if (edge.Role == NodeEdge.BackingRole)
        {
            _backing = null;
        }
    }

    /// <summary>
    /// Lets another driver of the same image answer from now on. Needs a drained section, and whoever keeps answers of the old one (an index) must be told.
    /// </summary>
    /// <returns>The driver of before; the caller closes it.</returns>
    internal FormatDriver SwapDriver(FormatDriver driver, DriverSettings settings)
    {
        FormatDriver before = _driver;
        _driver = driver;
        _settings = settings;
        _copyOnWrite = new CopyOnWrite(this, driver);
        _zeroing = new Zeroing(this, driver);
        return before;
    }

    private async ValueTask ReadBackingAsync(long offset, Memory<byte> part)
    {
        // An overlay may be longer than its backing file (RELIABILITY D15): the rest reads as zeros.
        int fromBacking = _backing is null ? 0 : (int)Math.Clamp(_backing.Size - offset, 0, part.Length);
        part.Span[fromBacking..].Clear();
        if (fromBacking > 0)
        {
            await (_index is null ? _backing!.ReadAsync(offset, part[..fromBacking]) : _index.ReadAsync(offset, part[..fromBacking]));
        }
    }

    private async ValueTask<BlockStatus> BackingStatusAsync(long offset, long length, MapPurpose purpose)
    {
        if (purpose == MapPurpose.Transfer && _index is not null && offset < _backing!.Size)
        {
            (long covered, bool isZero) = await _index.FindZerosAsync(offset, Math.Min(length, _backing.Size - offset));
            return new BlockStatus(covered, isZero, IsAllocated: !isZero, Depth: isZero ? 0 : 2);
        }

        return await ChainStatus.FindAsync(_backing, depth: 2, offset, length, purpose);
    }
}
