namespace BlockMount.Exports.Fuse;

/// <summary>Who besides the mounting user may use a mount.</summary>
public enum AllowOther
{
    /// <summary>Try to admit others, fall back to the mounting user alone.</summary>
    Auto,

    /// <summary>Only the mounting user (and root where the kernel lets it).</summary>
    Off,

    /// <summary>Everybody; mounting fails where that is not permitted.</summary>
    On,
}

/// <summary>How a device is mounted on a file (FEATURES X20-X32).</summary>
public sealed record FuseExportOptions
{
    /// <summary>Unique among the exports of a daemon; null: made from the mount point.</summary>
    public string? Id { get; init; }

    /// <summary>Absolute path of the regular file to mount on. It exists: the caller made it where needed.</summary>
    public required string MountPoint { get; init; }

    /// <summary>Clients may write.</summary>
    public bool Writable { get; init; } = true;

    /// <summary>A write past the end grows the disk; otherwise it is ENOSPC.</summary>
    public bool Growable { get; init; }

    /// <summary>Who besides the mounting user may use the mount.</summary>
    public AllowOther AllowOther { get; init; } = AllowOther.Auto;

    /// <summary>Source shown in /proc/mounts: the image's absolute path.</summary>
    public required string FileSystemName { get; init; }

    /// <summary>Worker threads, each with a cloned /dev/fuse descriptor; 0 chooses by the number of processors.</summary>
    public int Workers { get; init; }

    /// <summary>Owner, group and permission bits of the file shown; null: the process's user and group, 0600 or 0400.</summary>
    public uint? UserId { get; init; }

    public uint? GroupId { get; init; }

    public uint? Mode { get; init; }

    /// <summary>Mount through fusermount3 even where mount(2) is permitted; for tests.</summary>
    internal bool AlwaysUseFusermount { get; init; }
}
