using System.Diagnostics;
using System.Numerics;
using Microsoft.Extensions.ObjectPool;

namespace BlockMount.Base.Buffers;

/// <summary>
/// Pools of <see cref="AlignedBuffer"/>, one for each power of two from 4 KiB to 4 MiB. Thread-safe.
/// A rented buffer belongs to the caller until it is returned, exactly once, and its content is undefined.
/// </summary>
public sealed class AlignedBufferPool
{
    private const int MinBits = 12;
    private const int MaxBits = 22;

    private readonly ObjectPool<AlignedBuffer>[] _pools;

    /// <summary>The pool that the whole process shares.</summary>
    public static AlignedBufferPool Shared { get; } = new();

    /// <summary>Creates empty pools; each keeps at most as many idle buffers as fit into 8 MiB, and at least 4.</summary>
    public AlignedBufferPool()
    {
        _pools = new ObjectPool<AlignedBuffer>[MaxBits - MinBits + 1];
        for (int bits = MinBits; bits <= MaxBits; bits++)
        {
            int retained = Math.Clamp((8 << 20) >> bits, 4, 64);
            // The provider's pool disposes what it cannot keep; a plain DefaultObjectPool would leak the native memory.
            DefaultObjectPoolProvider provider = new() { MaximumRetained = retained };
            _pools[bits - MinBits] = provider.Create(new Policy(1 << bits));
        }
    }

    /// <summary>A buffer of at least <paramref name="length"/> bytes (1 or more). Above 4 MiB it is allocated and not kept.</summary>
    public AlignedBuffer Rent(int length)
    {
        int index = IndexOf(length);
        return index < _pools.Length ? _pools[index].Get() : new AlignedBuffer(length);
    }

    /// <summary>Gives a rented buffer back. The caller must not touch it again.</summary>
    public unsafe void Return(AlignedBuffer buffer)
    {
        int index = IndexOf(buffer.Length);
        if (index < _pools.Length)
        {
            Debug.Assert(buffer.Pointer != null, "a disposed buffer was returned");
            Debug.Assert(BitOperations.IsPow2(buffer.Length), "the buffer is not from a pool");
            _pools[index].Return(buffer);
        }
        else
        {
            ((IDisposable)buffer).Dispose();
        }
    }

    private static int IndexOf(int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        int bits = 32 - BitOperations.LeadingZeroCount((uint)(length - 1));
        return Math.Max(bits, MinBits) - MinBits;
    }

    private sealed class Policy(int length) : IPooledObjectPolicy<AlignedBuffer>
    {
        public AlignedBuffer Create() => new(length);

        public bool Return(AlignedBuffer buffer) => true;
    }
}
