using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Formats;

namespace BlockMount.Control.DiskTool;

/// <summary>What the disk tool works on. One request at a time; ranges lie inside <see cref="Size"/>. Errors are those of nodes.</summary>
internal abstract class DiskToolTarget
{
    /// <summary>Bytes.</summary>
    internal abstract long Size { get; }

    internal abstract bool ReadOnly { get; }

    /// <summary>Where allocation is asked about.</summary>
    internal abstract Node Node { get; }

    internal abstract ValueTask ReadAsync(long offset, Memory<byte> buffer);

    internal abstract ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> buffer, bool compressed, bool fua);

    internal abstract ValueTask ZeroAsync(long offset, long length, ZeroFlags flags, bool fua);

    internal abstract ValueTask DiscardAsync(long offset, long length);

    internal abstract ValueTask FlushAsync();

    internal abstract ValueTask<BlockStatus> StatusAsync(long offset, long length);

    internal abstract ValueTask ResizeAsync(long size);

    internal abstract ValueTask<NodeReport> ReportAsync();
}

/// <summary>A device, used as its exports use it: the guest's requests go on beside, and are counted with these.</summary>
internal sealed class DeviceToolTarget(ControlLoop control, BlockDevice device) : DiskToolTarget
{
    internal override long Size => device.Size;

    internal override bool ReadOnly => device.ReadOnly;

    internal override Node Node => device.Root;

    internal override ValueTask ReadAsync(long offset, Memory<byte> buffer) => device.ReadAsync(offset, buffer);

    internal override ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> buffer, bool compressed, bool fua) =>
        compressed ? device.WriteCompressedAsync(offset, buffer) : device.WriteAsync(offset, buffer, fua);

    internal override ValueTask ZeroAsync(long offset, long length, ZeroFlags flags, bool fua) => device.ZeroAsync(offset, length, flags, fua);

    internal override ValueTask DiscardAsync(long offset, long length) => device.DiscardAsync(offset, length);

    internal override ValueTask FlushAsync() => device.FlushAsync();

    internal override ValueTask<BlockStatus> StatusAsync(long offset, long length) => device.StatusAsync(offset, length);

    internal override ValueTask ResizeAsync(long size) => device.ResizeAsync(size);

    internal override async ValueTask<NodeReport> ReportAsync() => await control.RunAsync(scope => GraphQueries.NodeAsync(scope, device.Root));
}

/// <summary>A node that no device is asked about, in an action of the control loop that has drained the devices above it.</summary>
internal sealed class NodeToolTarget(ControlScope scope, Node node) : DiskToolTarget
{
    internal override long Size => node.Size;

    internal override bool ReadOnly => node.ReadOnly;

    internal override Node Node => node;

    internal override ValueTask ReadAsync(long offset, Memory<byte> buffer) => buffer.IsEmpty ? default : node.ReadAsync(offset, buffer);

    internal override async ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> buffer, bool compressed, bool fua)
    {
        if (!buffer.IsEmpty)
        {
            await (compressed ? node.WriteCompressedAsync(offset, buffer) : node.WriteAsync(offset, buffer));
        }

        if (fua)
        {
            await node.FlushAsync();
        }
    }

    internal override async ValueTask ZeroAsync(long offset, long length, ZeroFlags flags, bool fua)
    {
        if (length > 0)
        {
            await node.ZeroAsync(offset, length, flags);
        }

        if (fua)
        {
            await node.FlushAsync();
        }
    }

    internal override ValueTask DiscardAsync(long offset, long length) => length == 0 ? default : node.DiscardAsync(offset, length);

    internal override ValueTask FlushAsync() => node.ReadOnly ? default : node.FlushAsync();

    internal override ValueTask<BlockStatus> StatusAsync(long offset, long length) => node.StatusAsync(offset, length, MapPurpose.Status);

    internal override ValueTask ResizeAsync(long size) => node.ResizeAsync(size);

    internal override ValueTask<NodeReport> ReportAsync() => GraphQueries.NodeAsync(scope, node);
}
