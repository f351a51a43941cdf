using System.CommandLine;
using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Daemon.Hosting;
using BlockMount.Daemon.Registry;
using BlockMount.Exports.Fuse;

namespace BlockMount.Daemon.Cli;

/// <summary>'blockmount umount': takes the mount away and waits until the daemon has flushed, unlocked and ended.</summary>
internal static class UmountCommand
{
    private const int SIGTERM = 15;

    /// <summary>The command for the tree.</summary>
    public static Command Build()
    {
        Argument<string> target = new("MOUNTPOINT|ID") { Description = "the file that shows the disk, or the daemon's name in 'blockmount ls'" };
        Option<double> timeout = new("--timeout")
        {
            Description = "how long to wait for the daemon's end",
            DefaultValueFactory = _ => 60,
            HelpName = "SECONDS",
        };
        Command command = new("umount", "Unmount, and wait until everything is flushed and unlocked.") { target, timeout };
        command.Aliases.Add("unmount");
        command.SetAction((parsed, _) => RunAsync(parsed.GetRequiredValue(target), parsed.GetValue(timeout)));
        return command;
    }

    private static async Task<int> RunAsync(string target, double timeoutSeconds)
    {
        if (timeoutSeconds is not (>= 0 and <= 1e6))
        {
            throw new UsageException("--timeout needs a number of seconds from 0 to 1000000");
        }

        RegisteredDaemon? daemon = Find(daemon => daemon.Entry.Id == target);
        string? path = daemon is not null ? daemon.Entry.MountPoint : HostPath.Canonical(target);
        daemon ??= Find(known => known.Entry.MountPoint == path);
        MountEntry? mount = path is null ? null : MountTable.FindTop(path);
        if (mount is { } other && other.FileSystemType != FuseMount.FileSystemType)
        {
            throw new BlockMountException($"'{path}' is a mount of type {other.FileSystemType}, not one of blockmount", "Use umount(8).");
        }

        if (daemon is null && mount is null)
        {
            throw new BlockMountException($"nothing is mounted on '{target}'", "See 'blockmount ls'.");
        }

        using EntryFile? entry = daemon is null ? null : EntryFile.TryOpen(daemon.Path);
        if (mount is not null)
        {
            await Unmounter.UnmountAsync(path!);
        }
        else if (daemon is { Alive: true })
        {
            // It serves NBD only, or is on its way out already.
            _ = LibcProcess.kill(daemon.Entry.Pid, SIGTERM);
        }

        return await ConcludeAsync(daemon, entry, TimeSpan.FromSeconds(timeoutSeconds));
    }

    private static async Task<int> ConcludeAsync(RegisteredDaemon? daemon, EntryFile? entry, TimeSpan timeout)
    {
        if (daemon is null || entry is null)
        {
            ErrorReport.Warn("the daemon was not registered, so its end could not be awaited");
            return ExitCodes.Success;
        }

        if (!await DaemonEnd.WaitAsync(daemon, entry, timeout))
        {
            throw new BlockMountException(
                $"unmounted, but the daemon (pid {daemon.Entry.Pid}) is still writing after {timeout.TotalSeconds:0.#} s",
                $"The image '{daemon.Entry.Image}' stays locked until it ends. Wait longer with: blockmount umount --timeout SECONDS {daemon.Entry.Id}");
        }

        return DaemonEnd.Conclude(daemon);
    }

    private static RegisteredDaemon? Find(Func<RegisteredDaemon, bool> match)
    {
        // A living daemon counts before the leftover of a dead one.
        List<RegisteredDaemon> found = [.. DaemonRegistry.Visible().SelectMany(registry => registry.List()).Where(match)];
        return found.Find(daemon => daemon.Alive) ?? found.FirstOrDefault();
    }
}
