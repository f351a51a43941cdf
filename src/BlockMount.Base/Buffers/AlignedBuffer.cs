using System.Buffers;
using System.Runtime.InteropServices;

namespace BlockMount.Base.Buffers;

/// <summary>
/// Native memory, 4096-byte aligned, that never moves, so it may be handed to the kernel as it is.
/// The creator owns it and disposes it; <see cref="MemoryManager{T}.Memory"/> must not be used afterwards.
/// </summary>
public sealed unsafe class AlignedBuffer : MemoryManager<byte>
{
    /// <summary>Alignment of <see cref="Pointer"/> in bytes: a page, which satisfies O_DIRECT on every device we meet.</summary>
    public const int PageSize = 4096;

    private byte* _pointer;

    /// <summary>Allocates <paramref name="length"/> bytes (1 or more). The content is undefined.</summary>
    public AlignedBuffer(int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        _pointer = (byte*)NativeMemory.AlignedAlloc((nuint)length, PageSize);
        Length = length;
    }

    /// <summary>Capacity in bytes.</summary>
    public int Length { get; }

    /// <summary>The first byte; null after disposal.</summary>
    public byte* Pointer => _pointer;

    /// <inheritdoc/>
    public override Span<byte> GetSpan() => new(_pointer, Length);

    /// <inheritdoc/>
    public override MemoryHandle Pin(int elementIndex = 0) => new(_pointer + elementIndex);

    /// <summary>Does nothing: native memory does not move.</summary>
    public override void Unpin()
    {
    }

    /// <summary>Frees the memory. Safe to call twice.</summary>
    protected override void Dispose(bool disposing)
    {
        byte* pointer = _pointer;
        _pointer = null;
        if (pointer != null)
        {
            NativeMemory.AlignedFree(pointer);
        }
    }
}
