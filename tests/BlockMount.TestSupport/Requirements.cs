using System.Runtime.InteropServices;
using BlockMount.Base;
using BlockMount.Base.Interop.Uring;
using BlockMount.Storage;
using Xunit;

namespace BlockMount.TestSupport;

/// <summary>What a test needs from the machine, besides programs.</summary>
[Flags]
public enum Needs
{
    None = 0,

    /// <summary>/dev/fuse, and root or fusermount3 to mount with.</summary>
    Fuse = 1,

    /// <summary>User id 0.</summary>
    Root = 2,

    /// <summary>A loop device (root, /dev/loop-control).</summary>
    Loop = 4,

    /// <summary>The published program, see <see cref="ReleaseBinary"/>.</summary>
    Release = 8,

    /// <summary>The library that reads zstd clusters.</summary>
    Zstd = 16,

    /// <summary>FUSE over io_uring, switched on; includes <see cref="Fuse"/>.</summary>
    FuseUring = 32 | Fuse,

    /// <summary>FUSE passthrough for files in the temporary folder; includes <see cref="Fuse"/> and <see cref="Root"/>.</summary>
    FusePassthrough = 64 | Fuse | Root,

    /// <summary>io_uring for this process.</summary>
    IoUring = 128,
}

/// <summary>A fact that is skipped, with the reason, where the machine lacks what it needs. Decided when tests are discovered.</summary>
[AttributeUsage(AttributeTargets.Method)]
public class RequiresFactAttribute : FactAttribute
{
    /// <param name="needs">Parts of the machine.</param>
    /// <param name="tools">Programs that must be in PATH or in an sbin folder.</param>
    public RequiresFactAttribute(Needs needs, params string[] tools)
    {
        Skip = Requirements.WhatIsMissing(needs, tools);
    }
}

/// <summary>A theory that is skipped, with the reason, where the machine lacks what it needs.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class RequiresTheoryAttribute : TheoryAttribute
{
    /// <inheritdoc cref="RequiresFactAttribute(Needs, string[])"/>
    public RequiresTheoryAttribute(Needs needs, params string[] tools)
    {
        Skip = Requirements.WhatIsMissing(needs, tools);
    }
}

/// <summary>A fact that needs programs, as <c>[RequiresToolFact("qemu-img")]</c>.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class RequiresToolFactAttribute(params string[] tools) : RequiresFactAttribute(Needs.None, tools);

/// <summary>A fact that mounts.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class RequiresFuseFactAttribute(params string[] tools) : RequiresFactAttribute(Needs.Fuse, tools);

/// <summary>A fact that runs the published program, mounting included.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class RequiresReleaseFactAttribute(params string[] tools)
    : RequiresFactAttribute(Needs.Release | Needs.Fuse, tools);

/// <summary>Looks at the machine.</summary>
public static class Requirements
{
    private static readonly string[] s_systemFolders = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

    /// <summary>The reason to skip, naming everything that is missing; null when nothing is.</summary>
    public static string? WhatIsMissing(Needs needs, params string[] tools)
    {
        List<string> missing = [];
        foreach (string tool in tools)
        {
            if (FindTool(tool) is null)
            {
                missing.Add($"{tool} is not installed");
            }
        }

        bool root = Environment.UserName == "root";
        if (needs.HasFlag(Needs.Root) && !root)
        {
            missing.Add("not root");
        }

        if (needs.HasFlag(Needs.Fuse) && (!File.Exists("/dev/fuse") || !(root || FindTool("fusermount3") is not null)))
        {
            missing.Add(File.Exists("/dev/fuse") ? "neither root nor fusermount3" : "no /dev/fuse");
        }

        if (needs.HasFlag(Needs.FuseUring) && FuseUringObstacle() is { } obstacle)
        {
            missing.Add(obstacle);
        }

        if (needs.HasFlag(Needs.FusePassthrough) && FusePassthroughObstacle() is { } reason)
        {
            missing.Add(reason);
        }

        if ((needs.HasFlag(Needs.IoUring) || RunOptions.Storage.Engine == IoEngine.IoUring) && IoUringObstacle() is { } noRing)
        {
            missing.Add(noRing);
        }

        if (needs.HasFlag(Needs.Loop) && !(root && File.Exists("/dev/loop-control")))
        {
            missing.Add("no loop devices (root and /dev/loop-control)");
        }

        if (needs.HasFlag(Needs.Release) && ReleaseBinary.TryFind() is null)
        {
            missing.Add("the release binary is not built (make build, or set BLOCKMOUNT)");
        }

        if (needs.HasFlag(Needs.Zstd) && !NativeLibrary.TryLoad("libzstd.so.1", out nint _))
        {
            missing.Add("libzstd.so.1 is not installed");
        }

        return missing.Count == 0 ? null : string.Join("; ", missing);
    }

    private static string? FuseUringObstacle()
    {
        const string parameter = "/sys/module/fuse/parameters/enable_uring";
        return !File.Exists(parameter) ? "the kernel has no FUSE over io_uring (Linux 6.14)"
            : File.ReadAllText(parameter).Trim() != "Y" ? $"FUSE over io_uring is switched off (as root: echo Y > {parameter})"
            : null;
    }

    private static string? IoUringObstacle()
    {
        using IoUring? ring = IoUring.TryCreate(entries: 1, flags: 0, out Errno errno);
        return ring is null ? $"the kernel offers no io_uring ({errno})" : null;
    }

    private static string? FusePassthroughObstacle() =>
        Environment.OSVersion.Version < new Version(6, 9) ? "the kernel has no FUSE passthrough (Linux 6.9)"
        : new DriveInfo(Path.GetTempPath()).DriveFormat.Contains("overlay", StringComparison.Ordinal) ? "the temporary folder lies on a stacked file system"
        : null;

    /// <summary>Absolute path of a program, or null.</summary>
    public static string? FindTool(string name)
    {
        string[] folders = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries);
        return folders.Concat(s_systemFolders).Select(folder => Path.Combine(folder, name)).FirstOrDefault(File.Exists);
    }
}
