using BlockMount.Base;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2;

/// <summary>
/// An external data file that is a raw image of the disk by itself, and stays one (qcow2 specification, autoclear bit 1): what the guest reads as zeros
/// are zeros there, and its length follows the disk. Zeroes and discards change the file and leave the tables alone. Does not own the file.
/// </summary>
internal sealed class RawDataFile
{
    private readonly StorageFile _file;
    private readonly bool _discardToHost;

    /// <param name="discardToHost">Space of discarded ranges is given back; otherwise discards do nothing.</param>
    internal RawDataFile(StorageFile file, bool discardToHost)
    {
        _file = file;
        _discardToHost = discardToHost;
    }

    /// <summary>
    /// What block status says of <paramref name="mapping"/>: all of the disk is data as far as the tables know, so the host's file system is asked which of it is
    /// holes. A hole holds no space and counts as not allocated, as in a raw image.
    /// </summary>
    /// <exception cref="BlockIOException">The file system was asked and failed.</exception>
    internal async ValueTask<Mapping> FindHolesAsync(Mapping mapping)
    {
        if (mapping.Kind != MappingKind.Data)
        {
            return mapping;
        }

        FileExtent extent = await _file.MapAsync(mapping.FileOffset, mapping.Length);
        return extent.IsHole ? new Mapping(MappingKind.Zero, extent.Length) : mapping with { Length = extent.Length };
    }

    /// <summary>Writes zeros.</summary>
    internal ValueTask ZeroAsync(long offset, long length, ZeroFlags flags) =>
        _file.WriteZeroesAsync(offset, length, flags.HasFlag(ZeroFlags.MayUnmap));

    /// <summary>Punches the range where the host's file system can: then file and guest read zeros. Where it cannot, both keep what they have.</summary>
    internal async ValueTask DiscardAsync(long offset, long length)
    {
        if (_discardToHost)
        {
            await _file.PunchHoleAsync(offset, length);
        }
    }

    /// <summary>Makes the file long enough for a disk that grows; the new part reads as zeros. Nobody relies on it before the new size is stored.</summary>
    internal async ValueTask GrowAsync(long oldSize, long newSize)
    {
        long length = _file.Length;
        if (length > oldSize)
        {
            await _file.WriteZeroesAsync(oldSize, Math.Min(length, newSize) - oldSize, mayUnmap: true);
        }

        if (length < newSize)
        {
            await _file.ResizeAsync(newSize);
        }
    }

    /// <summary>Cuts the file off where the disk ends now. A file that cannot be cut, as a block device, stays longer: nobody reads that part.</summary>
    internal async ValueTask ShrinkAsync(long newSize)
    {
        try
        {
            if (_file.Length > newSize)
            {
                await _file.ResizeAsync(newSize);
            }
        }
        catch (BlockIOException)
        {
            // The disk is short already, and growing it again zeroes what is left there.
        }
    }
}
