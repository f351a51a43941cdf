using BlockMount.Formats;
using BlockMount.Storage;

namespace BlockMount.TestSupport.Mutants;

/// <summary>Copy on write forgets the part of a new cluster behind the written range: it holds zeros.</summary>
public sealed class TailNotCopied : Mutant
{
    /// <inheritdoc/>
    public override FormatDriver Wrap(FormatDriver driver) => new Forgetting(driver);

    private sealed class Forgetting(FormatDriver inner) : MutantDriver(inner)
    {
        private readonly Dictionary<PendingAllocation, (StorageFile File, long Offset, long Length)> _tails = [];

        public override async ValueTask CommitWriteAsync(PendingAllocation allocation)
        {
            if (_tails.Remove(allocation, out (StorageFile File, long Offset, long Length) tail))
            {
                await tail.File.WriteZeroesAsync(tail.Offset, tail.Length, mayUnmap: false);
            }

            await Inner.CommitWriteAsync(allocation);
        }

        protected override async ValueTask<WritePlan> PrepareWriteCoreAsync(long offset, long length)
        {
            WritePlan plan = await Inner.PrepareWriteAsync(offset, length);
            long end = plan.FileOffset + plan.Length;
            if (plan.Allocation is { } allocation && end < allocation.FileOffset + allocation.GuestLength)
            {
                _tails.Add(allocation, (plan.File, end, allocation.FileOffset + allocation.GuestLength - end));
            }

            return plan;
        }
    }
}

/// <summary>A zero cluster lets the backing file show through.</summary>
public sealed class ZerosShowBacking : Mutant
{
    /// <inheritdoc/>
    public override FormatDriver Wrap(FormatDriver driver) => new Showing(driver);

    private sealed class Showing(FormatDriver inner) : MutantDriver(inner)
    {
        protected override async ValueTask<Mapping> MapCoreAsync(long offset, long length, MapPurpose purpose)
        {
            Mapping mapping = await Inner.MapAsync(offset, length, purpose);
            return mapping.Kind == MappingKind.Zero ? new Mapping(MappingKind.Backing, mapping.Length) : mapping;
        }
    }
}

/// <summary>A freed cluster is handed out again too early: while reads and writes that found it are still under way.</summary>
public sealed class LeasesProtectNothing : Mutant
{
    /// <inheritdoc/>
    public override FormatDriver Wrap(FormatDriver driver) => new Careless(driver);

    private sealed class Careless(FormatDriver inner) : MutantDriver(inner)
    {
        public override MapLease EnterLease() => default;
    }
}

/// <summary>New clusters whose data could not be written are linked nevertheless.</summary>
public sealed class FailedWritesCommitted : Mutant
{
    /// <inheritdoc/>
    public override FormatDriver Wrap(FormatDriver driver) => new Committing(driver);

    private sealed class Committing(FormatDriver inner) : MutantDriver(inner)
    {
        public override ValueTask AbandonWriteAsync(PendingAllocation allocation) => Inner.CommitWriteAsync(allocation);
    }
}

/// <summary>The tables point to new clusters before the data is written there (I1 broken).</summary>
public sealed class CommittedBeforeData : Mutant
{
    /// <inheritdoc/>
    public override FormatDriver Wrap(FormatDriver driver) => new Hasty(driver);

    private sealed class Hasty(FormatDriver inner) : MutantDriver(inner)
    {
        public override ValueTask CommitWriteAsync(PendingAllocation allocation) => ValueTask.CompletedTask;

        public override ValueTask AbandonWriteAsync(PendingAllocation allocation) => ValueTask.CompletedTask;

        protected override async ValueTask<WritePlan> PrepareWriteCoreAsync(long offset, long length)
        {
            WritePlan plan = await Inner.PrepareWriteAsync(offset, length);
            if (plan.Allocation is not null)
            {
                await Inner.CommitWriteAsync(plan.Allocation);
            }

            return plan;
        }
    }
}
