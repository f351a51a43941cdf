using BlockMount.Base;

namespace BlockMount.Storage;

/// <summary>What an image's user may do, numbered as in QEMU's lock bytes (FEATURES K2).</summary>
[Flags]
internal enum LockPermissions
{
    None = 0,
    ConsistentRead = 1 << 0,
    Write = 1 << 1,
    WriteUnchanged = 1 << 2,
    Resize = 1 << 3,
}

/// <summary>The permissions that a user of an image holds, and those that nobody else may hold meanwhile.</summary>
internal readonly record struct LockProfile(LockPermissions Held, LockPermissions Unshared)
{
    /// <summary>Ours alone (K7): bytes 100, 101, 103 and 201, 203.</summary>
    public static LockProfile ReadWrite { get; } = new(
        LockPermissions.ConsistentRead | LockPermissions.Write | LockPermissions.Resize,
        LockPermissions.Write | LockPermissions.Resize);

    /// <summary>Many readers, no writer (K8): 100 and 201, 203.</summary>
    public static LockProfile ReadOnly { get; } = new(LockPermissions.ConsistentRead, LockPermissions.Write | LockPermissions.Resize);

    /// <summary>Other writers admitted, the size stays (K9): 100, 101 and 203.</summary>
    public static LockProfile SharedWrite { get; } = new(LockPermissions.ConsistentRead | LockPermissions.Write, LockPermissions.Resize);

    /// <summary>A reader that admits writers (K9): 100 and 203.</summary>
    public static LockProfile SharedRead { get; } = new(LockPermissions.ConsistentRead, LockPermissions.Resize);

    /// <summary>A reader that admits everything (K10): 100.</summary>
    public static LockProfile ForceShare { get; } = new(LockPermissions.ConsistentRead, LockPermissions.None);

    /// <summary>Before a file is truncated by create (K11): 101, 103 and 203.</summary>
    public static LockProfile Create { get; } = new(LockPermissions.Write | LockPermissions.Resize, LockPermissions.Resize);

    /// <summary>No byte at all.</summary>
    public static LockProfile None { get; } = new(LockPermissions.None, LockPermissions.None);

    /// <summary>What both hold, and what either does not share.</summary>
    public LockProfile Union(LockProfile other) => new(Held | other.Held, Unshared | other.Unshared);

    /// <summary>The profile that <paramref name="options"/> ask for.</summary>
    /// <exception cref="BlockMountException">The options contradict each other.</exception>
    public static LockProfile For(StorageOpenOptions options)
    {
        if (options.ForceShare && !options.ReadOnly)
        {
            throw new BlockMountException("force-share can only be used with read-only images", "Open the image read-only, or leave force-share out.");
        }

        return options switch
        {
            { Lock: false } => None,
            { ForceShare: true } => ForceShare,
            { ReadOnly: true, ShareWrite: true } => SharedRead,
            { ReadOnly: true } => ReadOnly,
            { ShareWrite: true } => SharedWrite,
            _ => ReadWrite,
        };
    }
}
