using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Formats;
using BlockMount.TestSupport.Images;

namespace BlockMount.TestSupport.Model;

/// <summary>
/// The internal snapshots that a workload took of the image in <paramref name="file"/>, with what they hold. An operation that is not possible at the
/// moment is left out. Single-threaded; operations may overlap.
/// </summary>
public sealed class SnapshotModel(TestChain chain, MemoryFile file)
{
    private const int CountMax = 3;

    private readonly Dictionary<string, byte[]> _contents = [];
    private int _creating;

    /// <summary>What a new snapshot says of itself: nothing that depends on the day.</summary>
    public static SnapshotMoment Moment { get; } = new() { Date = DateTimeOffset.UnixEpoch };

    /// <summary>The size must stay: version 2 with snapshots.</summary>
    public bool ForbidsResize => chain.Geometry.Version == 2 && _contents.Count + _creating > 0;

    /// <summary>With compressed clusters a cluster may have so many references that narrow counts are full: then a change is refused.</summary>
    public bool MayOverflow => chain.Geometry.RefcountOrder <= 3;

    /// <summary>What a snapshot holds; null if there is none of that name.</summary>
    public byte[]? Find(string name) => _contents.GetValueOrDefault(name);

    /// <summary>Takes a snapshot and reads what it holds.</summary>
    /// <returns>Its content; null if none was taken.</returns>
    public async ValueTask<byte[]?> CreateAsync(BlockDevice device, string name)
    {
        if (chain.Geometry.DataFile != DataFileKind.None || _contents.ContainsKey(name) || _contents.Count + _creating >= CountMax || !await HasRoomAsync(device))
        {
            return null;
        }

        _creating++;
        try
        {
            if (!await IsDoneAsync(async () => await device.CreateSnapshotAsync(name, Moment)))
            {
                return null;
            }

            byte[] content = await chain.ReadSnapshotAsync(file.Reopen(readOnly: true), name);
            _contents.Add(name, content);
            return content;
        }
        finally
        {
            _creating--;
        }
    }

    /// <summary>Goes back to a snapshot.</summary>
    /// <returns>True if the disk holds now what the snapshot holds.</returns>
    public async ValueTask<bool> ApplyAsync(BlockDevice device, string name) =>
        _contents.ContainsKey(name) && await IsDoneAsync(() => device.ApplySnapshotAsync(name));

    /// <summary>Deletes a snapshot.</summary>
    /// <returns>True if there was one.</returns>
    public async ValueTask<bool> DeleteAsync(BlockDevice device, string name)
    {
        // First, so that nobody goes back to it meanwhile.
        if (!_contents.Remove(name))
        {
            return false;
        }

        await device.DeleteSnapshotAsync(name);
        return true;
    }

    /// <summary>Looks whether each snapshot holds what it held when it was taken.</summary>
    /// <exception cref="ModelMismatchException">One does not.</exception>
    public async ValueTask CheckAsync()
    {
        foreach ((string name, byte[] content) in _contents)
        {
            byte[] read = await chain.ReadSnapshotAsync(file.Reopen(readOnly: true), name);
            if (!read.AsSpan().SequenceEqual(content))
            {
                throw new ModelMismatchException($"snapshot {name} has {read.Length} bytes and not {content.Length}, or another one at {read.AsSpan().CommonPrefixLength(content)}");
            }
        }
    }

    private async ValueTask<bool> HasRoomAsync(BlockDevice device)
    {
        int order = chain.Geometry.RefcountOrder;
        int refcountMax = order > 3 ? int.MaxValue : (1 << (1 << order)) - 1;
        // Counted with those of others: the image may have begun with some.
        return (await device.ListSnapshotsAsync()).Count + 1 < refcountMax;
    }

    private async ValueTask<bool> IsDoneAsync(Func<ValueTask> change)
    {
        try
        {
            await change();
            return true;
        }
        catch (BlockIOException e) when (MayOverflow && e.Errno == Errno.EINVAL)
        {
            return false;
        }
    }
}
