using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Formats;
using BlockMount.TestSupport.Model;

namespace BlockMount.TestSupport.Images;

/// <summary>An opened <see cref="TestChain"/>: the device, and the driver of its top image for what only the driver can do. Owns the device.</summary>
public sealed class TestDisk : IAsyncDisposable
{
    private readonly bool _canCompress;

    /// <param name="canCompress">False for images with a data file, which has no room for streams: compressed writes are normal ones then.</param>
    internal TestDisk(BlockDevice device, FormatDriver driver, bool canCompress)
    {
        _canCompress = canCompress;
        Device = device;
        Driver = driver;
    }

    /// <summary>The device that the guest sees.</summary>
    public BlockDevice Device { get; }

    /// <summary>The top image's driver, with the mutant around it if there is one. Owned by the device.</summary>
    public FormatDriver Driver { get; }

    /// <summary>
    /// Applies an operation that lies inside the disk. A read goes to <paramref name="buffer"/>, which is as long as the operation. Reopening is the
    /// business of whoever owns the disk: here it does nothing.
    /// </summary>
    public ValueTask ApplyAsync(GuestOperation operation, Memory<byte> buffer = default) => operation.Kind switch
    {
        GuestOperationKind.Read => Device.ReadAsync(operation.Offset, buffer),
        GuestOperationKind.Write => Device.WriteAsync(operation.Offset, operation.Data()),
        GuestOperationKind.WriteCompressed => WriteCompressedAsync(operation),
        GuestOperationKind.Zero => Device.ZeroAsync(operation.Offset, operation.Length, ZeroFlags.None),
        GuestOperationKind.ZeroMayUnmap => Device.ZeroAsync(operation.Offset, operation.Length, ZeroFlags.MayUnmap),
        GuestOperationKind.Discard => Device.DiscardAsync(operation.Offset, operation.Length),
        GuestOperationKind.Flush => Device.FlushAsync(),
        GuestOperationKind.Resize => Device.ResizeAsync(operation.Offset),
        GuestOperationKind.SnapshotCreate => CreateSnapshotAsync(operation.SnapshotName),
        GuestOperationKind.SnapshotApply => Device.ApplySnapshotAsync(operation.SnapshotName),
        GuestOperationKind.SnapshotDelete => Device.DeleteSnapshotAsync(operation.SnapshotName),
        _ => ValueTask.CompletedTask,
    };

    private async ValueTask CreateSnapshotAsync(string name) => await Device.CreateSnapshotAsync(name, SnapshotModel.Moment);

    // A disk of another size (a workload that was shortened) may have left no whole clusters of it: then it is a normal write.
    private ValueTask WriteCompressedAsync(GuestOperation operation)
    {
        long end = operation.Offset + operation.Length;
        bool whole = Alignment.IsAligned(operation.Offset, Device.Root.ClusterSize)
            && (end == Device.Size || Alignment.IsAligned(end, Device.Root.ClusterSize));
        return whole && _canCompress ? Device.WriteCompressedAsync(operation.Offset, operation.Data()) : Device.WriteAsync(operation.Offset, operation.Data());
    }

    /// <summary>Closes the device cleanly.</summary>
    public ValueTask DisposeAsync() => Device.DisposeAsync();
}
