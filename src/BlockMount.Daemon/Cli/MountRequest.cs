using System.Net;
using BlockMount.Exports.Fuse;
using BlockMount.Formats.Qcow2;
using BlockMount.Storage;

namespace BlockMount.Daemon.Cli;

/// <summary>What the form 'blockmount IMAGE [MOUNTPOINT]' asks for, checked as far as that goes without opening anything.</summary>
public sealed record MountRequest
{
    /// <summary>The image as it was given.</summary>
    public required string Image { get; init; }

    /// <summary>The mount point as it was given; null when only NBD is wanted.</summary>
    public string? MountPoint { get; init; }

    /// <summary>Name of the daemon in 'ls'; null derives one from the image's name.</summary>
    public string? Id { get; init; }

    /// <summary>The image's format; null detects it.</summary>
    public string? Format { get; init; }

    /// <summary>Where NBD clients connect; null for no NBD server.</summary>
    public EndPoint? Nbd { get; init; }

    /// <summary>Name that NBD clients ask for.</summary>
    public string ExportName { get; init; } = "";

    /// <summary>Where clients of the machine protocol connect; null for no such monitor.</summary>
    public EndPoint? Qmp { get; init; }

    /// <summary>Where people connect; null for no such monitor.</summary>
    public EndPoint? HumanMonitor { get; init; }

    /// <summary>The human monitor is at standard input and output; the daemon stays in the foreground.</summary>
    public bool MonitorInTerminal { get; init; }

    /// <summary>Where the daemon writes its log; null writes none in the background.</summary>
    public string? LogFile { get; init; }

    /// <summary>Debug messages too.</summary>
    public bool Verbose { get; init; }

    /// <summary>The words of -o and --read-only.</summary>
    public MountOptions Options { get; init; } = new();
}

/// <summary>The words of -o.</summary>
public sealed record MountOptions
{
    public bool ReadOnly { get; init; }

    public AllowOther AllowOther { get; init; } = AllowOther.Auto;

    public bool Growable { get; init; }

    /// <summary>Admit other writers of the image.</summary>
    public bool ShareWrite { get; init; }

    /// <summary>Discards and zeroes reach the image and the host file.</summary>
    public bool Discard { get; init; } = true;

    public bool Direct { get; init; }

    public bool NoFlush { get; init; }

    /// <summary>Who waits for the disk where the page cache does not have it.</summary>
    public IoEngine Engine { get; init; }

    public uint? UserId { get; init; }

    public uint? GroupId { get; init; }

    /// <summary>Permission bits of the file shown.</summary>
    public uint? Mode { get; init; }

    /// <summary>FUSE worker threads; 0 chooses.</summary>
    public int Workers { get; init; }

    /// <summary>The kernel may read a raw image on its own where nothing can change it.</summary>
    public bool Passthrough { get; init; } = true;

    /// <summary>How requests come from the kernel.</summary>
    public FuseTransport Transport { get; init; } = FuseTransport.Auto;

    /// <summary>The internal snapshot to show, by id or else by name; null shows the disk as it is.</summary>
    public string? Snapshot { get; init; }

    /// <summary>Format of the first backing file where the image does not name it.</summary>
    public string? BackingFormat { get; init; }

    /// <summary>The image's external data file, instead of the one that it names.</summary>
    public string? DataFile { get; init; }

    /// <summary>Options of the qcow2 driver, for the active layer.</summary>
    public Qcow2RuntimeOptions Qcow2 { get; init; } = new();
}
