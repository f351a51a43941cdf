using BlockMount.Base;
using BlockMount.Storage;

namespace BlockMount.Formats.Raw;

/// <summary>The raw format: guest offset equals host offset. Owns its file and closes it.</summary>
public sealed class RawDriver : FormatDriver
{
    private readonly StorageFile _file;

    // Changed only by ResizeAsync, under exclusive use.
    private long _virtualSize;

    /// <summary>Takes over <paramref name="file"/>; the disk is as long as the file.</summary>
    public RawDriver(StorageFile file)
    {
        _file = file;
        _virtualSize = file.Length;
    }

    /// <inheritdoc/>
    public override string FormatName => "raw";

    /// <inheritdoc/>
    public override long VirtualSize => _virtualSize;

    /// <inheritdoc/>
    public override bool ReadOnly => _file.ReadOnly;

    /// <inheritdoc/>
    public override int ClusterSize => 1;

    /// <inheritdoc/>
    public override long AllocatedBytes => _file.AllocatedBytes;

    /// <inheritdoc/>
    public override BackingReference? Backing => null;

    /// <inheritdoc/>
    public override StorageFile? FlatFile => _file.Length == _virtualSize ? _file : null;

    /// <summary>Raw frees no clusters, so a lease has nothing to protect.</summary>
    public override MapLease EnterLease() => default;

    /// <inheritdoc/>
    public override bool TryMapCached(long offset, long length, out Mapping mapping)
    {
        mapping = new Mapping(MappingKind.Data, length, _file, offset);
        return true;
    }

    /// <inheritdoc/>
    public override ValueTask CommitWriteAsync(PendingAllocation allocation) =>
        throw new System.Diagnostics.UnreachableException("raw never allocates");

    /// <inheritdoc/>
    public override ValueTask AbandonWriteAsync(PendingAllocation allocation) =>
        throw new System.Diagnostics.UnreachableException("raw never allocates");

    /// <inheritdoc/>
    public override async ValueTask<bool> ZeroAsync(long offset, long length, ZeroFlags flags)
    {
        await _file.WriteZeroesAsync(offset, length, flags.HasFlag(ZeroFlags.MayUnmap));
        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask DiscardAsync(long offset, long length) => await _file.PunchHoleAsync(offset, length);

    /// <inheritdoc/>
    public override ValueTask FlushAsync() => _file.FlushAsync();

    /// <inheritdoc/>
    public override async ValueTask ResizeAsync(
        long size, Func<ValueTask>? fillNewSpace = null, Preallocation preallocation = Preallocation.Off)
    {
        long oldSize = _virtualSize;
        PreallocationFill.CheckGrows(preallocation, oldSize, size, _file.Name);
        if (preallocation == Preallocation.Metadata)
        {
            throw new BlockIOException(Errno.EOPNOTSUPP, $"resize of '{_file.Name}' with preallocation mode 'metadata', which raw does not have");
        }

        await _file.ResizeAsync(size);
        await FillAsync(preallocation, oldSize, size);
        _virtualSize = size;
        if (fillNewSpace is not null)
        {
            await fillNewSpace();
        }
    }

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        try
        {
            if (!ReadOnly)
            {
                await _file.FlushAsync();
            }
        }
        finally
        {
            await _file.DisposeAsync();
        }
    }

    /// <inheritdoc/>
    protected override ValueTask<Mapping> MapCoreAsync(long offset, long length, MapPurpose purpose) =>
        purpose == MapPurpose.Transfer
            ? new ValueTask<Mapping>(new Mapping(MappingKind.Data, length, _file, offset))
            : MapHolesAsync(offset, length);

    /// <inheritdoc/>
    protected override ValueTask<WritePlan> PrepareWriteCoreAsync(long offset, long length) =>
        new(new WritePlan(_file, offset, length, Allocation: null));

    // On failure, most likely for want of space, the file is as long as before.
    private async ValueTask FillAsync(Preallocation preallocation, long oldSize, long size)
    {
        try
        {
            await PreallocationFill.RunAsync(_file, preallocation, oldSize, size - oldSize);
        }
        catch
        {
            await _file.ResizeAsync(oldSize);
            throw;
        }
    }

    private async ValueTask<Mapping> MapHolesAsync(long offset, long length)
    {
        FileExtent extent = await _file.MapAsync(offset, length);
        return extent.IsHole
            ? new Mapping(MappingKind.Zero, extent.Length)
            : new Mapping(MappingKind.Data, extent.Length, _file, offset);
    }
}
