using System.Text;
using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Bitmaps;

/// <summary>
/// The persistent bitmaps of an image that is open for writing: named tables of bytes, in and out. It knows nothing of live dirty bitmaps. From opening to
/// closing every stored bitmap is marked in use, so that a crash leaves none that could be taken for right; see README.md for which of them a
/// clean close makes valid again.
/// <para>Threading: any thread; each method takes the metadata mutex. Every change is on disk when it returns, or has not happened.</para>
/// <para>It works through the tables in force when it was made. After a change of the snapshots the driver has another store, and every call to this one is
/// refused (ESTALE): its refcounts are no longer the image's, and what it took for free may be in use.</para>
/// </summary>
public sealed class PersistentBitmapStore
{
    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly MetadataWriter _writer;
    private readonly DirectoryOnDisk _directory;

    // Guarded by the metadata mutex.
    private List<Held> _held;
    private long _diskSize;

    // Set by any thread, taken under the mutex.
    private volatile bool _guestDataChanged;

    // Set once, under the mutex; looked at under it, too, by whatever writes.
    private volatile bool _isReplaced;

    private PersistentBitmapStore(
        StorageFile file, Geometry geometry, MetadataWriter writer, DirectoryOnDisk directory, List<Held> held, long diskSize)
    {
        _file = file;
        _geometry = geometry;
        _writer = writer;
        _directory = directory;
        _held = held;
        _diskSize = diskSize;
    }

    /// <summary>Why the bitmaps that the image had are lost; null if they are not. For a warning.</summary>
    public string? Problem { get; private init; }

    /// <summary>The bitmaps; <see cref="StoredBitmap.IsInUse"/> is set in those that a clean close would leave inconsistent now.</summary>
    public IReadOnlyList<StoredBitmap> Bitmaps
    {
        get
        {
            ThrowIfReplaced();
            return [.. Volatile.Read(ref _held).Select(held => WithInUse(held.Bitmap, held.Bitmap.IsAuto && _guestDataChanged ? false : held.IsValid))];
        }
    }

    /// <summary>The refusal of a name that no bitmap has.</summary>
    public static ImageFormatException NotFound(string name) => new($"Dirty bitmap '{name}' not found");

    /// <summary>The refusal of a bitmap whose bits are not to be relied on.</summary>
    public static ImageFormatException Inconsistent(string name, string fileName) => new(
        $"Bitmap '{name}' is inconsistent and cannot be used", $"Remove it: 'blockmount bitmap --remove {fileName} {name}'");

    /// <summary>Takes over what the image has and marks all of it in use, on disk, before anything else is written.</summary>
    internal static async ValueTask<PersistentBitmapStore> OpenAsync(
        StorageFile file, Geometry geometry, GuestTables tables, MetadataWriter writer, BitmapDirectory directory, long diskSize)
    {
        DirectoryOnDisk onDisk = new(file, geometry, tables, writer, directory);
        List<Held> held = [.. directory.Bitmaps.Select(bitmap => new Held(bitmap, bitmap.IsConsistent))];
        PersistentBitmapStore store = new(file, geometry, writer, onDisk, held, diskSize) { Problem = directory.Problem };
        if (directory.Bitmaps.Any(bitmap => !bitmap.IsInUse))
        {
            await store.WriteFlagsAsync(inUse: _ => true);
        }

        return store;
    }

    /// <summary>
    /// The same session with tables that were opened anew, for a change of them that leaves the bitmaps alone. Under exclusive use; this store stays the
    /// image's until <see cref="TablesWereReplaced"/>, for good if the change fails.
    /// </summary>
    /// <param name="diskSize">Virtual size in bytes after the change. It is another one only if there are no bitmaps (a snapshot was applied).</param>
    internal PersistentBitmapStore MoveTo(GuestTables tables, MetadataWriter writer, long diskSize)
    {
        PersistentBitmapStore moved = new(_file, _geometry, writer, _directory.MoveTo(tables, writer), _held, diskSize)
        {
            Problem = Problem,
            _guestDataChanged = _guestDataChanged,
        };
        return moved;
    }

    /// <summary>
    /// The tables that this store works through are no longer in force: from now on it refuses every call, also those that wait for the mutex. The caller holds the
    /// metadata mutex.
    /// </summary>
    internal void TablesWereReplaced() => _isReplaced = true;

    /// <summary>Guest data was written, zeroed or discarded: what recorded changes and is not given back anew is wrong from now on.</summary>
    internal void GuestDataChanged()
    {
        // Written only when needed: the line stays shared between processors.
        if (!_guestDataChanged)
        {
            _guestDataChanged = true;
        }
    }

    /// <summary>Whether guest data was changed since bitmaps were last looked at; settable under exclusive use, for changes that are not the guest's.</summary>
    internal bool IsGuestDataChanged
    {
        get => _guestDataChanged;
        set => _guestDataChanged = value;
    }

    /// <summary>
    /// Adds a bitmap, or replaces the content of the one with this name (valid or not). It counts as valid at this moment; if it records, later
    /// writes of the guest end that.
    /// </summary>
    /// <param name="granularityBits">log2 of the guest bytes per bit: 9 to 31.</param>
    /// <param name="auto">It records changes.</param>
    /// <param name="source">The bits; null for zeros.</param>
    /// <exception cref="ImageFormatException">The format cannot store that; nothing was changed.</exception>
    public async ValueTask PutAsync(string name, int granularityBits, bool auto, BitmapSource? source)
    {
        using AsyncMutex.Releaser held = await EnterAsync();
        await PutLockedAsync(name, granularityBits, auto, source);
    }

    /// <summary>Adds a bitmap of zeros.</summary>
    /// <param name="granularityBits">log2 of the guest bytes per bit: 9 to 31.</param>
    /// <param name="auto">It records changes.</param>
    /// <exception cref="ImageFormatException">There is one of that name, or the format cannot store it; nothing was changed.</exception>
    public async ValueTask AddAsync(string name, int granularityBits, bool auto)
    {
        using AsyncMutex.Releaser held = await EnterAsync();
        if (Find(name) is not null)
        {
            throw new ImageFormatException($"Bitmap already exists: {name}");
        }

        await PutLockedAsync(name, granularityBits, auto, null);
    }

    /// <summary>Sets all bits of a bitmap to zero.</summary>
    /// <exception cref="ImageFormatException">There is none of that name, or it is inconsistent.</exception>
    public async ValueTask ClearAsync(string name)
    {
        using AsyncMutex.Releaser held = await EnterAsync();
        NoteChanges();
        StoredBitmap target = FindValid(name).Bitmap;
        await PutLockedAsync(name, target.GranularityBits, target.IsAuto, null);
    }

    /// <summary>Adds the bits of another bitmap of a disk of the same size; granularities may differ.</summary>
    /// <exception cref="ImageFormatException">There is none of that name, or it is inconsistent.</exception>
    public async ValueTask MergeAsync(string name, BitmapReader source, int sourceGranularityBits)
    {
        using AsyncMutex.Releaser held = await EnterAsync();
        NoteChanges();
        StoredBitmap target = FindValid(name).Bitmap;
        BitmapReader reader = new(_file, _geometry.ClusterSize, target);
        BitmapMerge merge = new(reader, target.GranularityBits, source, sourceGranularityBits, _diskSize);
        await PutLockedAsync(name, target.GranularityBits, target.IsAuto, merge.ReadAsync);
    }

    /// <summary>Removes a bitmap, also one that is inconsistent.</summary>
    /// <exception cref="ImageFormatException">There is none of that name.</exception>
    public async ValueTask RemoveAsync(string name)
    {
        using AsyncMutex.Releaser held = await EnterAsync();
        Held old = Find(name) ?? throw NotFound(name);
        await SwitchAsync([.. _held.Where(bitmap => bitmap != old)], NewWriter(), old.Bitmap);
    }

    /// <summary>Makes a bitmap record or not.</summary>
    /// <exception cref="ImageFormatException">There is none of that name, or it is inconsistent.</exception>
    public async ValueTask SetAutoAsync(string name, bool auto)
    {
        using AsyncMutex.Releaser held = await EnterAsync();
        NoteChanges();
        Held target = FindValid(name);
        uint flags = auto ? target.Bitmap.Flags | StoredBitmap.AutoFlag : target.Bitmap.Flags & ~StoredBitmap.AutoFlag;
        List<Held> before = _held;
        _held = [.. before.Select(bitmap => bitmap == target ? target with { Bitmap = target.Bitmap with { Flags = flags } } : bitmap)];
        try
        {
            await WriteFlagsAsync(inUse: _ => true);
        }
        catch
        {
            _held = before;
            throw;
        }
    }

    /// <summary>Reads a bitmap that is valid.</summary>
    /// <exception cref="ImageFormatException">There is none of that name, or it is inconsistent.</exception>
    public BitmapReader OpenReader(string name)
    {
        ThrowIfReplaced();
        return new BitmapReader(_file, _geometry.ClusterSize, FindValid(name).Bitmap);
    }

    /// <summary>
    /// Follows a change of the disk's size: bits of new space are zero, those of lost space are gone for good. The size is on disk already; a bitmap that cannot
    /// follow becomes inconsistent.
    /// </summary>
    internal async ValueTask ResizeAsync(long diskSize)
    {
        using AsyncMutex.Releaser held = await EnterAsync();
        NoteChanges();
        long oldSize = _diskSize;
        long common = Math.Min(oldSize, diskSize);
        _diskSize = diskSize;
        foreach (Held old in _held.Where(bitmap => bitmap.IsValid).ToList())
        {
            int granularityBits = old.Bitmap.GranularityBits;
            if (StoredBitmap.BitsFor(oldSize, granularityBits) == StoredBitmap.BitsFor(diskSize, granularityBits))
            {
                continue;
            }

            long bits = StoredBitmap.BitsFor(common, granularityBits);
            try
            {
                BitmapReader reader = new(_file, _geometry.ClusterSize, old.Bitmap);
                await PutLockedAsync(old.Bitmap.Name, granularityBits, old.Bitmap.IsAuto, (offset, bytes) => BitmapPieces.ReadPrefixAsync(reader, bits, offset, bytes));
            }
            catch (BlockMountException)
            {
                // The disk has its new size and goes on: a bitmap of the old size would be wrong, so it stays in use.
                _held = [.. _held.Select(bitmap => bitmap.Bitmap == old.Bitmap ? bitmap with { IsValid = false } : bitmap)];
            }
        }
    }

    /// <summary>
    /// The last step of a clean close, when everything else is on disk: takes the mark from those that are valid. A bitmap that recorded while the guest
    /// wrote and was not given back keeps it.
    /// </summary>
    internal async ValueTask CloseAsync()
    {
        using AsyncMutex.Releaser held = await EnterAsync();
        NoteChanges();
        if (_held.Any(bitmap => bitmap.IsValid))
        {
            await WriteFlagsAsync(inUse: bitmap => !bitmap.IsValid);
        }
    }

    private async ValueTask<AsyncMutex.Releaser> EnterAsync()
    {
        AsyncMutex.Releaser held = await _writer.Mutex.LockAsync();
        try
        {
            ThrowIfReplaced();
            return held;
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    private void ThrowIfReplaced()
    {
        if (_isReplaced)
        {
            throw new BlockIOException(Errno.ESTALE, $"use of the bitmaps of '{_file.Name}' as they were before its tables were replaced");
        }
    }

    private async ValueTask PutLockedAsync(string name, int granularityBits, bool auto, BitmapSource? source)
    {
        NoteChanges();
        byte[] nameBytes = BitmapLimits.CheckNew(name, granularityBits, _diskSize, _geometry, _file.Name);
        Held? old = Find(name);
        if (old is null && _held.Count == Qcow2Limits.BitmapCountMax)
        {
            throw new ImageFormatException($"'{_file.Name}' has {_held.Count} persistent bitmaps already, the most that can be stored");
        }

        BitmapWriter writer = NewWriter();
        Held added;
        try
        {
            (long offset, int entries) = await writer.WriteBitsAsync(StoredBitmap.BitsFor(_diskSize, granularityBits), source);
            added = new Held(
                new StoredBitmap
                {
                    NameBytes = nameBytes,
                    GranularityBits = (byte)granularityBits,
                    Flags = StoredBitmap.InUseFlag | (auto ? StoredBitmap.AutoFlag : 0),
                    TableOffset = (ulong)offset,
                    TableEntries = (uint)entries,
                },
                IsValid: true);
        }
        catch
        {
            await writer.GiveBackAsync();
            throw;
        }

        List<Held> next = old is null ? [.. _held, added] : [.. _held.Select(bitmap => bitmap == old ? added : bitmap)];
        await SwitchAsync(next, writer, old?.Bitmap);
    }

    private async ValueTask SwitchAsync(List<Held> next, BitmapWriter writer, StoredBitmap? dropped)
    {
        await _directory.ReplaceAsync([.. next.Select(held => WithInUse(held.Bitmap, valid: false))], writer, dropped);
        Volatile.Write(ref _held, next);
    }

    private ValueTask WriteFlagsAsync(Func<Held, bool> inUse) =>
        _directory.WriteInPlaceAsync([.. _held.Select(held => WithInUse(held.Bitmap, valid: !inUse(held)))]);

    private void NoteChanges()
    {
        if (_guestDataChanged)
        {
            _guestDataChanged = false;
            Volatile.Write(ref _held, [.. _held.Select(held => held.Bitmap.IsAuto ? held with { IsValid = false } : held)]);
        }
    }

    private BitmapWriter NewWriter() => new(_file, _geometry, _writer.Allocator);

    private Held? Find(string name)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(name);
        return Volatile.Read(ref _held).Find(held => held.Bitmap.NameBytes.Span.SequenceEqual(bytes));
    }

    private Held FindValid(string name)
    {
        Held held = Find(name) ?? throw NotFound(name);
        return held.IsValid && !(held.Bitmap.IsAuto && _guestDataChanged)
            ? held
            : throw Inconsistent(name, _file.Name);
    }

    private static StoredBitmap WithInUse(StoredBitmap bitmap, bool valid) => bitmap with
    {
        Flags = valid ? bitmap.Flags & ~StoredBitmap.InUseFlag : bitmap.Flags | StoredBitmap.InUseFlag,
    };

    /// <summary>One bitmap during a session.</summary>
    /// <param name="IsValid">Its bits are right as far as this session knows; a clean close says so.</param>
    private sealed record Held(StoredBitmap Bitmap, bool IsValid);
}
