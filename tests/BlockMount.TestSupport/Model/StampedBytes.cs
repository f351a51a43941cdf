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

    private static ulong Next(ref ulong state)
    {
        state = unchecked(state + 0x9e3779b97f4a7c15);
        ulong mixed = unchecked((state ^ (state >> 30)) * 0xbf58476d1ce4e5b9);
        mixed = unchecked((mixed ^ (mixed >> 27)) * 0x94d049bb133111eb);
        return (mixed ^ (mixed >> 31)) | 1;
    }
}
