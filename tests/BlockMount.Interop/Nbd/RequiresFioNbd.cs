using System.Diagnostics;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Nbd;

/// <summary>A fact that needs fio, built with its nbd engine.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class RequiresFioNbdFactAttribute : RequiresFactAttribute
{
    public RequiresFioNbdFactAttribute()
        : base(Needs.None, "fio")
    {
        Skip ??= FioNbd.Obstacle;
    }
}

/// <summary>A theory that needs fio, built with its nbd engine.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class RequiresFioNbdTheoryAttribute : TheoryAttribute
{
    public RequiresFioNbdTheoryAttribute()
    {
        Skip = Requirements.WhatIsMissing(Needs.None, "fio") ?? FioNbd.Obstacle;
    }
}

/// <summary>Asks fio, once, what it was built with.</summary>
internal static class FioNbd
{
    private static readonly Lazy<string?> s_obstacle = new(Ask);

    /// <summary>Why fio cannot be an NBD client; null if it can. It must be installed.</summary>
    internal static string? Obstacle => s_obstacle.Value;

    private static string? Ask()
    {
        using Process fio = ToolProcess.Start("fio", "--enghelp=nbd");
        fio.StandardInput.Close();
        string output = fio.StandardOutput.ReadToEnd();
        fio.WaitForExit();
        return output.Contains("uri", StringComparison.Ordinal) ? null : "fio was built without its nbd engine";
    }
}
