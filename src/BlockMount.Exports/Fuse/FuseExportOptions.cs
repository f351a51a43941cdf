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

/// <summary>How requests come from the kernel.</summary>
public enum FuseTransport
{
    /// <summary>The fastest that the kernel offers.</summary>
    Auto,

    /// <summary>read(2) and write(2) on /dev/fuse.</summary>
    Dev,

    /// <summary>FUSE over io_uring (Linux 6.14 with fuse.enable_uring=Y); mounting fails where that is not offered.</summary>
    Uring,
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

    /// <summary>How requests come from the kernel.</summary>
    public FuseTransport Transport { get; init; } = FuseTransport.Auto;

    /// <summary>
    /// The kernel may read a raw image on its own. Only for a device whose graph stays as it is until the mount ends: the kernel would go on reading the file of before
    /// after a snapshot, a reopen or a change of the medium. Whoever lets nobody change the graph says so; nobody else does.
    /// </summary>
    public bool Passthrough { get; init; }

    /// <summary>Owner, group and permission bits of the file shown; null: the process's user and group, 0600 or 0400.</summary>
    public uint? UserId { get; init; }

    public uint? GroupId { get; init; }

    public uint? Mode { get; init; }

    /// <summary>Added to the numbers of the kernel's queues, so that it refuses the rings; for tests.</summary>
    internal int RingQueueShift { get; init; }

    /// <summary>Mount through fusermount3 even where mount(2) is permitted; for tests.</summary>
    internal bool AlwaysUseFusermount { get; init; }
}
