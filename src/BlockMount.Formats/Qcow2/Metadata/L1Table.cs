using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// The active L1 table, whole in memory. Entries are read without a lock and changed under the metadata mutex; changed sectors are
/// written back by <see cref="WriteBackOrder"/>.
/// </summary>
public sealed class L1Table
{
    private const int SectorSize = 512;
    private const int EntriesPerSector = SectorSize / sizeof(ulong);

    private readonly StorageFile _file;
    private readonly ulong[] _entries;

    // Guarded by the metadata mutex.
    private readonly SortedSet<int> _dirtySectors = [];

    private L1Table(StorageFile file, long hostOffset, int count)
    {
        _file = file;
        HostOffset = hostOffset;
        _entries = new ulong[count];
    }

    /// <summary>Where the table lies in the image file.</summary>
    public long HostOffset { get; }

    /// <summary>Number of entries.</summary>
    public int Count => _entries.Length;

    /// <summary>True if sectors wait to be written. Read under the metadata mutex.</summary>
    public bool HasDirty => _dirtySectors.Count > 0;

    /// <summary>Reads the table at <paramref name="hostOffset"/>.</summary>
    /// <param name="countAtLeast">Entries to have in memory: what the stored table lacks is absent.</param>
    public static async ValueTask<L1Table> LoadAsync(StorageFile file, long hostOffset, int count, int countAtLeast = 0)
    {
        L1Table table = new(file, hostOffset, Math.Max(count, countAtLeast));
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(1 << 20);
        try
        {
            int perRead = buffer.Length / sizeof(ulong);
            for (int first = 0; first < count; first += perRead)
            {
                int here = Math.Min(perRead, count - first);
                Memory<byte> part = buffer.Memory[..(here * sizeof(ulong))];
                await file.ReadAsync(hostOffset + ((long)first * sizeof(ulong)), part);
                for (int i = 0; i < here; i++)
                {
                    table._entries[first + i] = BinaryPrimitives.ReadUInt64BigEndian(part.Span[(i * sizeof(ulong))..]);
                }
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }

        return table;
    }

    /// <summary>Reads an entry atomically; any thread.</summary>
    public L1Entry Get(long index) => new(Volatile.Read(ref _entries[index]));

    /// <summary>Changes an entry in memory. Call under the metadata mutex.</summary>
    public void Set(long index, L1Entry entry)
    {
        Volatile.Write(ref _entries[index], entry.Raw);
        _dirtySectors.Add((int)(index / EntriesPerSector));
    }

    /// <summary>A copy of all entries. Call under the metadata mutex.</summary>
    internal L1Entry[] ToArray() => Array.ConvertAll(_entries, static raw => new L1Entry(raw));

    /// <summary>Writes the changed sectors. Call under the metadata mutex. What fails stays dirty.</summary>
    public async ValueTask WriteBackAsync(OverlapChecks checks)
    {
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(SectorSize);
        try
        {
            while (_dirtySectors.Count > 0)
            {
                int sector = _dirtySectors.Min;
                int length = Encode(sector * EntriesPerSector, EntriesPerSector, buffer.GetSpan());
                long offset = HostOffset + ((long)sector * SectorSize);
                checks.CheckTable(MetadataKinds.ActiveL1, offset, length);
                await _file.WriteAsync(offset, buffer.Memory[..length]);
                _dirtySectors.Remove(sector);
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }

    /// <summary>
    /// Writes a copy with <paramref name="count"/> entries (not fewer) at <paramref name="hostOffset"/>, the rest of its last cluster zeroed,
    /// and returns it. This table is unchanged. Call under the metadata mutex.
    /// </summary>
    public async ValueTask<L1Table> CopyToAsync(long hostOffset, int count, int clusterSize)
    {
        L1Table copy = new(_file, hostOffset, count);
        _entries.CopyTo(copy._entries, 0);
        long total = Alignment.Up((long)count * sizeof(ulong), clusterSize);
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent((int)Math.Min(total, 1 << 20));
        try
        {
            for (long written = 0; written < total;)
            {
                int step = (int)Math.Min(buffer.Length, total - written);
                buffer.GetSpan()[..step].Clear();
                copy.Encode((int)(written / sizeof(ulong)), step / sizeof(ulong), buffer.GetSpan());
                await _file.WriteAsync(hostOffset + written, buffer.Memory[..step]);
                written += step;
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }

        return copy;
    }

    private int Encode(int first, int count, Span<byte> destination)
    {
        int here = Math.Clamp(_entries.Length - first, 0, count);
        for (int i = 0; i < here; i++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(destination[(i * sizeof(ulong))..], _entries[first + i]);
        }

        return here * sizeof(ulong);
    }
}
