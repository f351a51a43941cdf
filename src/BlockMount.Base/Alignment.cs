using System.Diagnostics;
using System.Numerics;

namespace BlockMount.Base;

/// <summary>Rounding of byte positions and lengths. Every alignment is a power of two, in bytes.</summary>
public static class Alignment
{
    /// <summary>The largest multiple of <paramref name="alignment"/> that is not above <paramref name="value"/>.</summary>
    public static long Down(long value, long alignment)
    {
        Debug.Assert(BitOperations.IsPow2(alignment));
        Debug.Assert(value >= 0);
        return value & ~(alignment - 1);
    }

    /// <summary>The smallest multiple of <paramref name="alignment"/> that is not below <paramref name="value"/>.</summary>
    public static long Up(long value, long alignment)
    {
        Debug.Assert(BitOperations.IsPow2(alignment));
        Debug.Assert(value >= 0);
        return (value + alignment - 1) & ~(alignment - 1);
    }

    /// <summary>True if <paramref name="value"/> is a multiple of <paramref name="alignment"/>.</summary>
    public static bool IsAligned(long value, long alignment)
    {
        Debug.Assert(BitOperations.IsPow2(alignment));
        return (value & (alignment - 1)) == 0;
    }

    /// <summary>Division that rounds up; both arguments are non-negative and the divisor is not zero.</summary>
    public static long DivideUp(long value, long divisor)
    {
        Debug.Assert(value >= 0);
        Debug.Assert(divisor > 0);
        return (value + divisor - 1) / divisor;
    }
}
