using BlockMount.Formats;
using BlockMount.Storage;

namespace BlockMount.Block.Nodes;

/// <summary>
/// A file or block device of the host, as a node (drivers "file" and "host_device"). A format above uses <see cref="File"/> itself; requests come here only if
/// the node is a device's root or lies below a filter. Owns the file.
/// </summary>
public sealed class FileNode : Node
{
    // Replaced only in a drained section, by Replace.
    private StorageFile _file;
    private string _name;

    // Told when a write goes beyond the threshold; control loop only.
    private Action<long>? _onExceeded;

    /// <summary>Takes over <paramref name="file"/>.</summary>
    /// <param name="options">How it was opened, for reopening; null if nobody will.</param>
    public FileNode(string name, StorageFile file, StorageOpenOptions? options = null)
    {
        _name = name;
        _file = file;
        OpenedWith = options;
    }

    /// <inheritdoc/>
    public override string Name => _name;

    /// <inheritdoc/>
    public override string DriverName => _file.IsBlockDevice ? "host_device" : "file";

    /// <inheritdoc/>
    public override string FileName => _file.Name;

    /// <inheritdoc/>
    public override long Size => _file.Length;

    /// <inheritdoc/>
    public override bool ReadOnly => _file.ReadOnly;

    /// <inheritdoc/>
    public override long AllocatedBytes => _file.AllocatedBytes;

    /// <inheritdoc/>
    public override int ClusterSize => 1;

    /// <inheritdoc/>
    public override Node? Backing => null;

    /// <inheritdoc/>
    public override StorageFile? FlatFile => _file;

    /// <summary>The file; still owned by the node.</summary>
    public StorageFile File => _file;

    /// <summary>How the file was opened; null if it cannot be opened in another way.</summary>
    public StorageOpenOptions? OpenedWith { get; private set; }

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer) => _file.ReadAsync(offset, buffer);

    /// <inheritdoc/>
    public override ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> buffer) => _file.WriteAsync(offset, buffer);

    /// <inheritdoc/>
    public override ValueTask ZeroAsync(long offset, long length, ZeroFlags flags) =>
        _file.WriteZeroesAsync(offset, length, Allowed(flags).HasFlag(ZeroFlags.MayUnmap));

    /// <inheritdoc/>
    public override async ValueTask DiscardAsync(long offset, long length)
    {
        if (PassesDiscards)
        {
            _ = await _file.PunchHoleAsync(offset, length);
        }
    }

    /// <inheritdoc/>
    public override ValueTask FlushAsync() => _file.FlushAsync();

    /// <inheritdoc/>
    public override async ValueTask<BlockStatus> StatusAsync(long offset, long length, MapPurpose purpose)
    {
        if (purpose == MapPurpose.Transfer)
        {
            return new BlockStatus(length, IsZero: false, IsAllocated: true, Depth: 1);
        }

        FileExtent extent = await _file.MapAsync(offset, length);
        return new BlockStatus(extent.Length, extent.IsHole, !extent.IsHole, extent.IsHole ? 0 : 1);
    }

    /// <inheritdoc/>
    public override async ValueTask ResizeAsync(long size, Preallocation preallocation = Preallocation.Off)
    {
        long before = _file.Length;
        PreallocationFill.CheckGrows(preallocation, before, size, _file.Name);
        await _file.ResizeAsync(size);
        if (size > before)
        {
            await PreallocationFill.RunAsync(_file, preallocation, before, size - before);
        }
    }

    /// <inheritdoc/>
    public override ValueTask DisposeAsync() => _file.DisposeAsync();

    /// <inheritdoc/>
    internal override StorageFile AsFile() => _file;

    /// <inheritdoc/>
    internal override void Rename(string name) => _name = name;

    /// <inheritdoc/>
    public override long WriteThreshold => _file.WriteThreshold;

    /// <inheritdoc/>
    public override long WriteHighestOffset => _file.WriteHighestOffset;

    /// <inheritdoc/>
    internal override void SetWriteThreshold(long threshold, Action<long> exceeded)
    {
        _onExceeded = exceeded;
        _file.SetWriteThreshold(threshold, exceeded);
    }

    /// <summary>Uses another handle of the same file from now on; those above are told by the caller, who closes the one of before.</summary>
    internal void Replace(StorageFile file, StorageOpenOptions options)
    {
        if (_onExceeded is not null)
        {
            file.SetWriteThreshold(_file.WriteThreshold, _onExceeded);
        }

        _file = file;
        OpenedWith = options;
    }
}
