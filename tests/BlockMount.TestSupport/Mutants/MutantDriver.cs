using BlockMount.Formats;

namespace BlockMount.TestSupport.Mutants;

/// <summary>Passes every call on to the driver below, which it owns. A mutant overrides what it gets wrong.</summary>
public class MutantDriver(FormatDriver inner) : FormatDriver
{
    public override string FormatName => Inner.FormatName;

    public override long VirtualSize => Inner.VirtualSize;

    public override bool ReadOnly => Inner.ReadOnly;

    public override int ClusterSize => Inner.ClusterSize;

    public override int ZeroUnit => Inner.ZeroUnit;

    public override long AllocatedBytes => Inner.AllocatedBytes;

    public override BackingReference? Backing => Inner.Backing;

    public override IInternalSnapshots? Snapshots => Inner.Snapshots;

    protected FormatDriver Inner { get; } = inner;

    public override MapLease EnterLease() => Inner.EnterLease();

    public override bool TryMapCached(long offset, long length, out Mapping mapping) => Inner.TryMapCached(offset, length, out mapping);

    public override ValueTask ReadCompressedAsync(Mapping mapping, long offset, Memory<byte> buffer) =>
        Inner.ReadCompressedAsync(mapping, offset, buffer);

    public override ValueTask OlderRequestsEndedAsync() => Inner.OlderRequestsEndedAsync();

    public override ValueTask CommitWriteAsync(PendingAllocation allocation) => Inner.CommitWriteAsync(allocation);

    public override ValueTask AbandonWriteAsync(PendingAllocation allocation) => Inner.AbandonWriteAsync(allocation);

    public override ValueTask<bool> WriteCompressedAsync(long offset, ReadOnlyMemory<byte> cluster) => Inner.WriteCompressedAsync(offset, cluster);

    public override ValueTask<bool> ZeroAsync(long offset, long length, ZeroFlags flags) => Inner.ZeroAsync(offset, length, flags);

    public override ValueTask DiscardAsync(long offset, long length) => Inner.DiscardAsync(offset, length);

    public override ValueTask FlushAsync() => Inner.FlushAsync();

    public override ValueTask ResizeAsync(long size, Func<ValueTask>? fillNewSpace = null, Preallocation preallocation = Preallocation.Off) =>
        Inner.ResizeAsync(size, fillNewSpace, preallocation);

    public override ValueTask DisposeAsync() => Inner.DisposeAsync();

    protected override ValueTask<Mapping> MapCoreAsync(long offset, long length, MapPurpose purpose) => Inner.MapAsync(offset, length, purpose);

    protected override ValueTask<WritePlan> PrepareWriteCoreAsync(long offset, long length) => Inner.PrepareWriteAsync(offset, length);
}
