using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Storage;

namespace BlockMount.TestSupport.Mutants;

/// <summary>One write of the run never arrives: data or metadata, whatever it happens to be.</summary>
/// <param name="number">Which one, from 1.</param>
public sealed class DroppedWrite(int number) : Mutant
{
    private readonly int _number = number;
    private int _writes;

    /// <inheritdoc/>
    public override StorageFile Wrap(StorageFile file) => new Dropping(this, file);

    private sealed class Dropping(DroppedWrite mutant, StorageFile inner) : MutantFile(inner)
    {
        protected override ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer) =>
            ++mutant._writes == mutant._number ? ValueTask.CompletedTask : Inner.WriteAsync(offset, buffer);
    }
}

/// <summary>
/// Writes of refcounts are lost now and then, without an error: clusters stay in use that are free, and are free (to be handed out a second time)
/// while they are in use.
/// </summary>
/// <param name="every">One of so many is lost.</param>
public sealed class DroppedRefcounts(int every) : Mutant
{
    private readonly int _every = every;
    private int _writes;

    /// <inheritdoc/>
    public override StorageFile Wrap(StorageFile file) => new Dropping(this, file);

    private sealed class Dropping(DroppedRefcounts mutant, StorageFile inner) : MutantFile(inner)
    {
        protected override async ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer)
        {
            if (!await IsRefcountBlockAsync(offset) || ++mutant._writes % mutant._every != 0)
            {
                await Inner.WriteAsync(offset, buffer);
            }
        }

        // By the header and the refcount table as they are in the file (qcow2 specification, "Header", "Refcounts").
        private async ValueTask<bool> IsRefcountBlockAsync(long offset)
        {
            byte[] header = new byte[72];
            await Inner.ReadAsync(0, header);
            int clusterBits = BinaryPrimitives.ReadInt32BigEndian(header.AsSpan(20));
            long cluster = Alignment.Down(offset, 1L << clusterBits);
            byte[] table = new byte[BinaryPrimitives.ReadInt32BigEndian(header.AsSpan(56)) << clusterBits];
            await Inner.ReadAsync(BinaryPrimitives.ReadInt64BigEndian(header.AsSpan(48)), table);
            for (int i = 0; i < table.Length; i += sizeof(long))
            {
                if (BinaryPrimitives.ReadInt64BigEndian(table.AsSpan(i)) == cluster && cluster != 0)
                {
                    return true;
                }
            }

            return false;
        }
    }
}

/// <summary>Errors of one kind of call are taken for success.</summary>
/// <param name="calls">Read, Write, or both.</param>
public sealed class SwallowedErrors(StorageCalls calls) : Mutant
{
    private readonly StorageCalls _calls = calls;

    /// <inheritdoc/>
    public override StorageFile Wrap(StorageFile file) => new Swallowing(file, _calls);

    private sealed class Swallowing(StorageFile inner, StorageCalls calls) : MutantFile(inner)
    {
        protected override async ValueTask ReadCoreAsync(long offset, Memory<byte> buffer)
        {
            try
            {
                await Inner.ReadAsync(offset, buffer);
            }
            catch (BlockIOException) when (calls.HasFlag(StorageCalls.Read))
            {
                // The mistake.
            }
        }

        protected override async ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer)
        {
            try
            {
                await Inner.WriteAsync(offset, buffer);
            }
            catch (BlockIOException) when (calls.HasFlag(StorageCalls.Write))
            {
                // The mistake.
            }
        }
    }
}
