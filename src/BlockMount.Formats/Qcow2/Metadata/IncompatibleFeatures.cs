using System.Buffers.Binary;
using BlockMount.Base.Async;
using BlockMount.Base.Buffers;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// The field of incompatible features in the header of an image that is open for writing (version 3), and the only writer of it meanwhile: the
/// dirty bit comes and goes, the corrupt bit comes at any moment. Any thread. The mutex inside is the last in the lock order.
/// </summary>
public sealed class IncompatibleFeatures
{
    private readonly StorageFile _file;
    private readonly AsyncMutex _mutex = new();

    // Written under _mutex, read without it. What the header is known to say, or will say after the change that is under way.
    private ulong _bits;

    /// <param name="bits">What the header says now.</param>
    public IncompatibleFeatures(StorageFile file, ulong bits)
    {
        _file = file;
        _bits = bits;
    }

    /// <summary>True if any bit of <paramref name="mask"/> is set.</summary>
    public bool Has(ulong mask) => (Volatile.Read(ref _bits) & mask) != 0;

    /// <summary>
    /// Sets and clears bits; durable afterwards. If it fails, the header has the old or the new value, and the change can be repeated.
    /// </summary>
    /// <exception cref="Base.BlockIOException">Writing or flushing failed.</exception>
    public async ValueTask ChangeAsync(ulong set, ulong clear)
    {
        using AsyncMutex.Releaser held = await _mutex.LockAsync();
        ulong bits = (_bits | set) & ~clear;
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(sizeof(ulong));
        try
        {
            BinaryPrimitives.WriteUInt64BigEndian(buffer.GetSpan(), bits);
            await _file.WriteAsync(Qcow2HeaderFields.IncompatibleFeatures, buffer.Memory[..sizeof(ulong)]);
            await _file.FlushAsync();
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }

        Volatile.Write(ref _bits, bits);
    }
}
