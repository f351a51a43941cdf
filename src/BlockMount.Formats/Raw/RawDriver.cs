using BlockMount.Base;
using BlockMount.Storage;

namespace BlockMount.Formats.Raw;

/// <summary>
/// The raw format: guest offset equals host offset, or lies a fixed distance before it where the disk is a part of the file. Owns its file and closes it, unless told
/// otherwise.
/// </summary>
public sealed class RawDriver : FormatDriver
{
    private readonly StorageFile _file;
    private readonly bool _leaveOpen;
    private readonly bool _readOnly;

    // Where the disk begins in the file, and whether it ends before the file does: options offset and size.
    private readonly long _start;
    private readonly bool _isFixed;

    // Changed only by ResizeAsync, under exclusive use.
    private long _virtualSize;

    /// <summary>Takes over <paramref name="file"/>; the disk is as long as the file.</summary>
    public RawDriver(StorageFile file)
        : this(file, leaveOpen: false)
    {
    }

    /// <summary>A disk that is a part of <paramref name="file"/>, or all of it.</summary>
    /// <param name="leaveOpen">The file belongs to somebody else: closing the driver leaves it open.</param>
    /// <param name="offset">Where in the file the disk begins, in bytes.</param>
    /// <param name="size">Bytes of the disk; null for all up to the end of the file.</param>
    /// <param name="readOnly">Refuse writes even though the file would take them.</param>
    /// <exception cref="ImageFormatException">The part does not lie in the file; the file stays open.</exception>
    public RawDriver(StorageFile file, bool leaveOpen, long offset = 0, long? size = null, bool readOnly = false)
    {
        if (offset > file.Length)
        {
            throw new ImageFormatException($"Offset ({offset}) cannot be greater than size of the containing file ({file.Length})");
        }

        if (size is { } asked && file.Length - offset < asked)
        {
            throw new ImageFormatException($"The sum of offset ({offset}) and size ({asked}) has to be smaller or equal to the  actual size of the containing file ({file.Length})");
        }

        if (size % 512 > 0)
        {
            throw new ImageFormatException("Specified size is not multiple of 512");
        }

        _file = file;
        _leaveOpen = leaveOpen;
        _readOnly = readOnly;
        _start = offset;
        _isFixed = size is not null;
        _virtualSize = size ?? (file.Length - offset);
    }

    /// <inheritdoc/>
    public override string FormatName => "raw";

    /// <inheritdoc/>
    public override long VirtualSize => _virtualSize;

    /// <inheritdoc/>
    public override bool ReadOnly => _readOnly || _file.ReadOnly;

    /// <inheritdoc/>
    public override int ClusterSize => 1;

    /// <inheritdoc/>
    public override long AllocatedBytes => _file.AllocatedBytes;

    /// <inheritdoc/>
    public override BackingReference? Backing => null;

    /// <inheritdoc/>
    public override StorageFile? FlatFile => _start == 0 && _file.Length == _virtualSize ? _file : null;

    /// <summary>Raw frees no clusters, so a lease has nothing to protect.</summary>
    public override MapLease EnterLease() => default;

    /// <inheritdoc/>
    public override bool TryMapCached(long offset, long length, out Mapping mapping)
    {
        mapping = new Mapping(MappingKind.Data, length, _file, _start + offset);
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
        await _file.WriteZeroesAsync(_start + offset, length, flags.HasFlag(ZeroFlags.MayUnmap));
        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask DiscardAsync(long offset, long length) => await _file.PunchHoleAsync(_start + offset, length);

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

        if (_isFixed)
        {
            throw new BlockIOException(Errno.EOPNOTSUPP, $"resize of a part of '{_file.Name}', whose size is fixed");
        }

        await _file.ResizeAsync(_start + size);
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
            if (!_leaveOpen)
            {
                await _file.DisposeAsync();
            }
        }
    }

    /// <inheritdoc/>
    protected override ValueTask<Mapping> MapCoreAsync(long offset, long length, MapPurpose purpose) =>
        purpose == MapPurpose.Transfer
            ? new ValueTask<Mapping>(new Mapping(MappingKind.Data, length, _file, _start + offset))
            : MapHolesAsync(offset, length);

    /// <inheritdoc/>
    protected override ValueTask<WritePlan> PrepareWriteCoreAsync(long offset, long length) =>
        new(new WritePlan(_file, _start + offset, length, Allocation: null));

    // On failure, most likely for want of space, the file is as long as before.
    private async ValueTask FillAsync(Preallocation preallocation, long oldSize, long size)
    {
        try
        {
            await PreallocationFill.RunAsync(_file, preallocation, _start + oldSize, size - oldSize);
        }
        catch
        {
            await _file.ResizeAsync(_start + oldSize);
            throw;
        }
    }

    private async ValueTask<Mapping> MapHolesAsync(long offset, long length)
    {
        FileExtent extent = await _file.MapAsync(_start + offset, length);
        return extent.IsHole
            ? new Mapping(MappingKind.Zero, extent.Length)
            : new Mapping(MappingKind.Data, extent.Length, _file, _start + offset);
    }
}
