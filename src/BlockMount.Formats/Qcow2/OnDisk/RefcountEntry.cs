using System.Buffers.Binary;
using System.Diagnostics;

namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>
/// Entries of refcount blocks (qcow2 specification, "Refcount block entry"): 2^order bits each, big-endian from 8 bits on; narrower ones
/// fill each byte from the least significant bit.
/// </summary>
public static class RefcountEntry
{
    /// <summary>Reads entry <paramref name="index"/> of a block or slice.</summary>
    public static ulong Read(ReadOnlySpan<byte> block, int index, int order)
    {
        switch (order)
        {
            case 3:
                return block[index];
            case 4:
                return BinaryPrimitives.ReadUInt16BigEndian(block[(index * 2)..]);
            case 5:
                return BinaryPrimitives.ReadUInt32BigEndian(block[(index * 4)..]);
            case 6:
                return BinaryPrimitives.ReadUInt64BigEndian(block[(index * 8)..]);
            default:
                int bitIndex = index << order;
                return (ulong)(block[bitIndex >> 3] >> (bitIndex & 7)) & ((1UL << (1 << order)) - 1);
        }
    }

    /// <summary>Writes entry <paramref name="index"/>; the value fits the width.</summary>
    public static void Write(Span<byte> block, int index, int order, ulong value)
    {
        Debug.Assert(order == 6 || value >> (1 << order) == 0);
        switch (order)
        {
            case 3:
                block[index] = (byte)value;
                break;
            case 4:
                BinaryPrimitives.WriteUInt16BigEndian(block[(index * 2)..], (ushort)value);
                break;
            case 5:
                BinaryPrimitives.WriteUInt32BigEndian(block[(index * 4)..], (uint)value);
                break;
            case 6:
                BinaryPrimitives.WriteUInt64BigEndian(block[(index * 8)..], value);
                break;
            default:
                int bitIndex = index << order;
                int shift = bitIndex & 7;
                int mask = ((1 << (1 << order)) - 1) << shift;
                ref byte cell = ref block[bitIndex >> 3];
                cell = (byte)((cell & ~mask) | ((int)value << shift));
                break;
        }
    }
}
