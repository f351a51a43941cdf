using System.Buffers.Binary;
using System.Numerics;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>
/// Drops bitmaps that are damaged or that share clusters with something else: a bitmap can be made again by a full backup, and a wrong one would make
/// backups wrong. If the directory cannot be read, all go, extension included (qcow2 specification, "Bitmaps extension").
/// </summary>
internal sealed class BitmapRepair
{
    private const int SectorSize = 512;

    private readonly ImageState _state;
    private readonly CheckedLayout _layout;
    private readonly FreshClusters _fresh;
    private readonly Dictionary<(long Offset, long Bytes), bool> _shared = [];

    internal BitmapRepair(ImageState state, FreshClusters fresh)
    {
        _state = state;
        _layout = state.Layout;
        _fresh = fresh;
    }

    /// <summary>True if bitmaps were dropped.</summary>
    internal async ValueTask<bool> RunAsync()
    {
        if (_layout.BitmapExtensionPlace == 0)
        {
            return false;
        }

        BitmapWalk walk = _state.Walk.Bitmaps!;
        HashSet<int> bad = [.. walk.Damaged];
        bool directory = walk.IsDirectoryDamaged || IsShared(_layout.BitmapDirectoryOffset, _layout.BitmapDirectoryLength);
        for (int i = 0; !directory && i < walk.Entries.Count; i++)
        {
            if (!bad.Contains(i) && await IsSharedAsync(walk.Entries[i]))
            {
                bad.Add(i);
            }
        }

        if (!directory && bad.Count == 0)
        {
            return false;
        }

        List<BitmapDirectoryEntry> kept = directory ? [] : [.. walk.Entries.Where((_, i) => !bad.Contains(i))];
        if (kept.Count == 0)
        {
            await DropAllAsync();
        }
        else
        {
            await WriteDirectoryAsync(kept);
        }

        return true;
    }

    // The bit first: without it nobody believes the extension.
    private async ValueTask DropAllAsync()
    {
        await HeaderRepair.WriteAutoclearAsync(_state.File, _layout.AutoclearFeatures & ~FeatureBits.Bitmaps);
        try
        {
            await HeaderRewriter.RewriteAsync(
                _state.File, order: null, header => header with { Extensions = [.. header.Extensions.Where(extension => extension.Type != HeaderExtensionType.Bitmaps)] });
        }
        catch (ImageFormatException)
        {
            // The header names structures that are still to be repaired. The extension stays, and is not valid.
        }
    }

    private bool IsShared(long offset, long length)
    {
        ClusterUses uses = _state.UsesOf(offset, length);
        return (uses & ClusterUses.Refcounts) == 0
            ? ClusterReferences.IsContested(uses)
            // The refcount structure is made anew elsewhere; a third owner is in the way.
            : BitOperations.PopCount((uint)(uses & ClusterUses.Kinds)) > 2;
    }

    // Tens of thousands of bitmaps may name one table.
    private async ValueTask<bool> IsSharedAsync(BitmapDirectoryEntry bitmap)
    {
        (long, long) table = (bitmap.TableOffset, bitmap.TableBytes);
        if (!_shared.TryGetValue(table, out bool shared))
        {
            shared = await IsTableSharedAsync(bitmap);
            _shared.Add(table, shared);
        }

        return shared;
    }

    private async ValueTask<bool> IsTableSharedAsync(BitmapDirectoryEntry bitmap)
    {
        if (IsShared(bitmap.TableOffset, bitmap.TableBytes))
        {
            return true;
        }

        TableReader table = new(_state.File, _state.Holes, bitmap.TableBytes);
        table.Select(bitmap.TableOffset, bitmap.TableBytes);
        for (long i = 0; i < bitmap.TableBytes / 8; i += table.RunLength(i))
        {
            long offset = (long)(await table.ReadAsync(i) & BitmapWalk.OffsetMask);
            if (offset != 0 && IsShared(offset, _layout.ClusterSize))
            {
                return true;
            }
        }

        return false;
    }

    private async ValueTask WriteDirectoryAsync(List<BitmapDirectoryEntry> kept)
    {
        int length = kept.Sum(entry => entry.EntryBytes);
        byte[] directory = new byte[(length + _layout.ClusterSize - 1) & -_layout.ClusterSize];
        int position = 0;
        foreach (BitmapDirectoryEntry entry in kept)
        {
            await _state.File.ReadAsync(entry.Place, directory.AsMemory(position, entry.EntryBytes));
            position += entry.EntryBytes;
        }

        long place = await _fresh.AllocateAsync(directory.Length >> _layout.ClusterBits);
        await _state.File.WriteAsync(place, directory);
        byte[] extension = new byte[24];
        BinaryPrimitives.WriteInt32BigEndian(extension, kept.Count);
        BinaryPrimitives.WriteInt64BigEndian(extension.AsSpan(8), length);
        BinaryPrimitives.WriteInt64BigEndian(extension.AsSpan(16), place);
        bool torn = _layout.BitmapExtensionPlace / SectorSize != (_layout.BitmapExtensionPlace + extension.Length - 1) / SectorSize;
        if (torn)
        {
            // It would not change as one piece: for the time in between there are no bitmaps.
            await HeaderRepair.WriteAutoclearAsync(_state.File, _layout.AutoclearFeatures & ~FeatureBits.Bitmaps);
        }

        await _state.File.FlushAsync();
        await _state.File.WriteAsync(_layout.BitmapExtensionPlace, extension);
        await _state.File.FlushAsync();
        if (torn)
        {
            await HeaderRepair.WriteAutoclearAsync(_state.File, _layout.AutoclearFeatures);
        }
    }
}
