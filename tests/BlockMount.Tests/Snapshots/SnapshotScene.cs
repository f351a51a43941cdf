using BlockMount.Block.Devices;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;

namespace BlockMount.Tests.Snapshots;

/// <summary>The three changes of snapshots.</summary>
public enum SnapshotChangeKind
{
    Create,
    Apply,
    Delete,
}

/// <summary>
/// An image in memory with data, zeros, holes and two snapshots, "first" (of a smaller disk where the format allows that) and "second"; and one change of
/// them, judged in every detail: which snapshots there are, what each holds, what the disk holds.
/// </summary>
internal sealed class SnapshotScene
{
    private readonly TestChain _chain;

    private SnapshotScene(TestChain chain)
    {
        _chain = chain;
    }

    /// <summary>Content by snapshot name; the disk itself is "".</summary>
    internal Dictionary<string, byte[]> Before { get; } = [];

    /// <summary>The image, closed.</summary>
    internal byte[] File { get; private set; } = [];

    internal ImageGeometry Geometry => _chain.Geometry;

    internal static ImageGeometry[] Geometries { get; } =
    [
        new() { Size = 40 << 10 },
        new() { Size = 40 << 10, Version = 2, DiscardToHost = false },
        new() { Size = 40 << 10, RefcountOrder = 2, ClusterBits = 10, Backing = BackingKind.Raw, Depth = 2, BackingSize = 30 << 10 },
        new() { Size = 64 << 10, RefcountOrder = 6, Backing = BackingKind.Qcow2, Depth = 3, BackingSize = 80 << 10, TinyCache = false },
        new() { Size = 96 << 10, ClusterBits = 12, RefcountOrder = 3 },
    ];

    internal static async Task<SnapshotScene> MakeAsync(ImageGeometry geometry)
    {
        bool fixedSize = geometry.Version == 2;
        ImageGeometry start = fixedSize ? geometry : geometry with { Size = geometry.Size / 2 };
        SnapshotScene scene = new(await TestChain.CreateAsync(start, seed: 5));
        BlockDevice device = await scene._chain.OpenAsync(scene._chain.Top.Reopen());
        int cluster = geometry.ClusterSize;
        await WriteAsync(device, 0, 9000, 1);
        await device.ZeroAsync(2L * cluster, 2L * cluster, ZeroFlags.None);
        await device.CreateSnapshotAsync("first", SnapshotModel.Moment);
        scene.Before.Add("first", await ReadAsync(device));
        if (!fixedSize)
        {
            await device.ResizeAsync(geometry.Size);
        }

        await WriteAsync(device, cluster / 2, 3 * cluster, 2);
        await WriteAsync(device, (int)(device.Size - (2 * cluster)), cluster, 3);
        await device.CreateSnapshotAsync("second", SnapshotModel.Moment);
        scene.Before.Add("second", await ReadAsync(device));
        await device.DiscardAsync(0, 2L * cluster);
        await WriteAsync(device, 5 * cluster, cluster + 512, 4);
        await device.ZeroAsync(7L * cluster, 3L * cluster, ZeroFlags.MayUnmap);
        scene.Before.Add("", await ReadAsync(device));
        await device.DisposeAsync();
        scene.File = scene._chain.Top.ToArray();
        return scene;
    }

    internal ValueTask<BlockDevice> OpenAsync(StorageFile file) => _chain.OpenAsync(file);

    /// <summary>"third" is created, "first" applied or deleted.</summary>
    internal static async ValueTask ChangeAsync(BlockDevice device, SnapshotChangeKind kind)
    {
        switch (kind)
        {
            case SnapshotChangeKind.Create:
                await device.CreateSnapshotAsync("third", SnapshotModel.Moment);
                break;
            case SnapshotChangeKind.Apply:
                await device.ApplySnapshotAsync("first");
                break;
            default:
                await device.DeleteSnapshotAsync("first");
                break;
        }
    }

    /// <summary>What must be there after the change.</summary>
    internal Dictionary<string, byte[]> After(SnapshotChangeKind kind)
    {
        Dictionary<string, byte[]> after = new(Before);
        switch (kind)
        {
            case SnapshotChangeKind.Create:
                after.Add("third", Before[""]);
                break;
            case SnapshotChangeKind.Apply:
                after[""] = Before["first"];
                break;
            default:
                after.Remove("first");
                break;
        }

        return after;
    }

    /// <summary>Reads everything, through an open device for the disk and through handles of their own for the snapshots.</summary>
    internal async Task<Dictionary<string, byte[]>> ReadAllAsync(MemoryFile file, BlockDevice device)
    {
        Dictionary<string, byte[]> contents = new() { [""] = await ReadAsync(device) };
        foreach (SnapshotEntry snapshot in await device.ListSnapshotsAsync())
        {
            contents.Add(snapshot.Name, await _chain.ReadSnapshotAsync(file.Reopen(readOnly: true), snapshot.Name));
        }

        return contents;
    }

    /// <summary>Opens the file, reads everything, closes it again. Corruption before or after is an error.</summary>
    internal async Task<Dictionary<string, byte[]>> ReadAllAsync(MemoryFile file, bool mustBeClean = false)
    {
        await CheckAsync(file, mustBeClean);
        BlockDevice device = await OpenAsync(file.Reopen());
        Dictionary<string, byte[]> contents;
        try
        {
            contents = await ReadAllAsync(file, device);
        }
        finally
        {
            await device.DisposeAsync();
        }

        await CheckAsync(file, mustBeClean);
        return contents;
    }

    internal static bool AreEqual(Dictionary<string, byte[]> left, Dictionary<string, byte[]> right) =>
        left.Count == right.Count && left.All(pair => right.TryGetValue(pair.Key, out byte[]? other) && pair.Value.AsSpan().SequenceEqual(other));

    private static async Task CheckAsync(MemoryFile file, bool mustBeClean)
    {
        CheckReport report = await ConsistencyCheck.RunAsync(file.Reopen(readOnly: true));
        if (report.Corruptions > 0 || (mustBeClean && !report.IsClean))
        {
            throw new ModelMismatchException(report.ToString());
        }
    }

    private static async ValueTask<byte[]> ReadAsync(BlockDevice device)
    {
        byte[] content = new byte[device.Size];
        await device.ReadAsync(0, content);
        return content;
    }

    private static ValueTask WriteAsync(BlockDevice device, int offset, int length, int stamp) =>
        device.WriteAsync(offset, new GuestOperation(GuestOperationKind.Write, offset, length, stamp).Data());
}
