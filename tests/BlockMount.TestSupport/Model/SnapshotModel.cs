using BlockMount.Block.Devices;
using BlockMount.Formats;
using BlockMount.TestSupport.Images;

namespace BlockMount.TestSupport.Model;

/// <summary>The internal snapshots that a workload took, with what they hold. Single-threaded; device and file may change under it.</summary>
public sealed class SnapshotModel(TestChain chain)
{
    private readonly Dictionary<string, byte[]> _contents = [];

    /// <summary>True if there is room for one more: the refcount of a cluster that all share still fits.</summary>
    public async ValueTask<bool> HasRoomAsync(BlockDevice device)
    {
        int order = chain.Geometry.RefcountOrder;
        int refcountMax = order > 3 ? int.MaxValue : (1 << (1 << order)) - 1;
        // Counted with those of others: the image may have begun with some.
        return _contents.Count < 3 && (await device.ListSnapshotsAsync()).Count + 1 < refcountMax;
    }

    /// <summary>Names of the snapshots.</summary>
    public IReadOnlyCollection<string> Names => _contents.Keys;

    /// <summary>What a snapshot holds; null if there is none of that name.</summary>
    public byte[]? Find(string name) => _contents.GetValueOrDefault(name);

    /// <summary>A snapshot was taken; reads from <paramref name="file"/> what it holds.</summary>
    public async ValueTask<byte[]> AddAsync(string name, MemoryFile file)
    {
        byte[] content = await chain.ReadSnapshotAsync(file.Reopen(readOnly: true), name);
        _contents.Add(name, content);
        return content;
    }

    /// <summary>A snapshot was deleted.</summary>
    public void Remove(string name) => _contents.Remove(name);

    /// <summary>Looks whether each snapshot holds what it held when it was taken.</summary>
    /// <exception cref="ModelMismatchException">One does not.</exception>
    public async ValueTask CheckAsync(MemoryFile file)
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

    /// <summary>What a new snapshot says of itself: nothing that depends on the day.</summary>
    public static SnapshotMoment Moment { get; } = new() { Date = DateTimeOffset.UnixEpoch };
}
