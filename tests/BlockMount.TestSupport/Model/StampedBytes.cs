using System.Runtime.InteropServices;

namespace BlockMount.TestSupport.Model;

/// <summary>Bytes that tell where they come from: they follow from a number, differ between numbers and between places, and are fast to make.</summary>
public static class StampedBytes
{
    /// <summary>Fills <paramref name="bytes"/> with the bytes of <paramref name="stamp"/>. No aligned group of eight is zero.</summary>
    public static void Fill(Span<byte> bytes, int stamp)
    {
        // The splitmix64 generator: equal stamps give equal bytes, close ones have nothing in common.
        ulong state = unchecked((ulong)stamp * 0x9e3779b97f4a7c15) + 1;
        Span<ulong> words = MemoryMarshal.Cast<byte, ulong>(bytes);
        for (int i = 0; i < words.Length; i++)
        {
            words[i] = Next(ref state);
        }

        ulong last = Next(ref state);
        foreach (ref byte value in bytes[(words.Length * sizeof(ulong))..])
        {
            value = (byte)(last | 1);
            last >>= 8;
        }
    }

    /// <summary>Makes most blocks of 512 bytes compressible, each in a degree of its own: few different bytes, none of them zero.</summary>
    public static void Thin(Span<byte> bytes, int stamp)
    {
        const int BlockSize = 512;
        ulong state = unchecked((ulong)stamp);
        for (; !bytes.IsEmpty; bytes = bytes[Math.Min(BlockSize, bytes.Length)..])
        {
            int mask = (Next(ref state) >> 8 & 7) switch { 0 => 0xff, < 4 => 0x01, < 6 => 0x07, _ => 0x1f };
            foreach (ref byte value in bytes[..Math.Min(BlockSize, bytes.Length)])
            {
                value = (byte)(mask == 0xff ? value : 0x60 + ((value >> 2) & mask));
            }
        }
    }

    private static ulong Next(ref ulong state)
    {
        state = unchecked(state + 0x9e3779b97f4a7c15);
        ulong mixed = unchecked((state ^ (state >> 30)) * 0xbf58476d1ce4e5b9);
        mixed = unchecked((mixed ^ (mixed >> 27)) * 0x94d049bb133111eb);
        return (mixed ^ (mixed >> 31)) | 1;
    }
}
