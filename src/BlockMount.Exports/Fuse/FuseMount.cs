using System.Globalization;
using System.Runtime.InteropServices;
using BlockMount.Base;
using BlockMount.Base.Interop;

namespace BlockMount.Exports.Fuse;

/// <summary>
/// A mount of type fuse.blockmount on a regular file: made by mount(2) where that is permitted, by fusermount3 otherwise. Knows the
/// mount by its id, so that it never unmounts somebody else's. Disposing of it leaves the mount as it is.
/// </summary>
public sealed class FuseMount : IDisposable
{
    /// <summary>The file system type that all mounts of this program have.</summary>
    public const string FileSystemType = "fuse." + Subtype;

    private const string Subtype = "blockmount";

    private readonly int _id;
    private readonly FuseConnection _connection;

    // Made by fusermount3, so it has to be unmounted by it.
    private readonly bool _byFusermount;

    // The first use resolves the function behind it, which may change errno: not after a failed call.
    static FuseMount() => _ = Libc.LastErrno;

    private FuseMount(string mountPoint, MountEntry entry, bool byFusermount, bool admitsOthers)
    {
        MountPoint = mountPoint;
        _id = entry.Id;
        _connection = FuseConnection.Open(entry.DeviceMinor);
        _byFusermount = byFusermount;
        AdmitsOthers = admitsOthers;
    }

    /// <summary>Canonical path of the file mounted on.</summary>
    public string MountPoint { get; }

    /// <summary>The mount has allow_other.</summary>
    internal bool AdmitsOthers { get; }

    /// <summary>
    /// Removes a mount of ours on <paramref name="mountPoint"/> whose daemon has died ("Transport endpoint is not connected").
    /// Mounts of others, and ours that answer, are left alone. May block as long as a living daemon takes to answer a stat.
    /// </summary>
    /// <returns>True if something was removed, so that the file below shows again.</returns>
    /// <exception cref="BlockMountException">There is a dead mount, but it cannot be removed.</exception>
    public static bool ClearStale(string mountPoint)
    {
        string? path = Canonical(mountPoint);
        bool cleared = false;
        while (path is not null && MountTable.FindTop(path) is { FileSystemType: FileSystemType } && StatFile(path, out _) == Errno.ENOTCONN)
        {
            string? failure = Detach(path, lazy: true, LibcMount.geteuid() != 0);
            if (failure is not null)
            {
                throw new BlockMountException($"Could not remove the dead mount on '{path}': {failure}", $"run 'umount -l {path}' as root");
            }

            cleared = true;
        }

        return cleared;
    }

    /// <summary>Mounts on the file that <paramref name="options"/> name. FUSE_INIT waits on the channel afterwards.</summary>
    /// <exception cref="BlockMountException">Not mounted, nothing left behind.</exception>
    internal static (FuseMount Mount, FuseDeviceChannel Channel) Create(FuseExportOptions options)
    {
        string path = CheckMountPoint(options.MountPoint);
        if (LibcMount.geteuid() == 0 && !options.AlwaysUseFusermount)
        {
            FuseDeviceChannel channel = FuseDeviceChannel.Open();
            try
            {
                Errno errno = MountDirectly(path, options, channel);
                if (errno == Errno.None)
                {
                    return (Mounted(path, byFusermount: false, options.AllowOther != AllowOther.Off), channel);
                }

                if (errno != Errno.EPERM)
                {
                    throw new BlockMountException($"Could not mount on '{path}': {ErrnoText.Describe(errno)}");
                }
            }
            catch
            {
                channel.Dispose();
                throw;
            }

            // Root of a container without CAP_SYS_ADMIN: fusermount3 may be permitted what we are not.
            channel.Dispose();
        }

        return MountByFusermount(path, options);
    }

    /// <summary>Unmounts if nobody uses the mount, or in any case with <paramref name="lazy"/>.</summary>
    /// <returns>Null if the mount is gone (also when somebody else has unmounted it), otherwise why not.</returns>
    internal string? TryUnmount(bool lazy)
    {
        if (MountTable.FindTop(MountPoint) is not { } top || top.Id != _id)
        {
            return IsMounted() ? "another file system was mounted over it" : null;
        }

        return Detach(MountPoint, lazy, _byFusermount);
    }

    /// <summary>Cuts off whoever still uses the mount; see <see cref="FuseConnection.Abort"/>.</summary>
    internal void Abort() => _connection.Abort();

    /// <inheritdoc/>
    public void Dispose() => _connection.Dispose();

    private bool IsMounted() =>
        File.ReadLines("/proc/self/mountinfo").Any(line => MountEntry.TryParse(line, out MountEntry entry) && entry.Id == _id);

    private static string CheckMountPoint(string mountPoint)
    {
        string? path = Canonical(mountPoint);
        Errno errno = StatFile(path ?? mountPoint, out StatxStruct status);
        if (path is null || errno != Errno.None)
        {
            string hint = errno == Errno.ENOTCONN ? $"run 'umount -l {mountPoint}' first" : "create the file first";
            throw new BlockMountException($"Failed to stat '{mountPoint}': {ErrnoText.Describe(errno)}", hint);
        }

        if ((status.Mode & LibcMount.S_IFMT) != LibcMount.S_IFREG)
        {
            throw new BlockMountException($"'{mountPoint}' is not a regular file", "name an existing regular file as the mount point");
        }

        return MountTable.FindTop(path) is { FileSystemType: FileSystemType } other
            ? throw new BlockMountException($"There already is a FUSE export on '{mountPoint}' (of '{other.Source}')", "unmount it first, or choose another file")
            : path;
    }

    private static Errno MountDirectly(string path, FuseExportOptions options, FuseDeviceChannel channel)
    {
        string data = string.Create(
            CultureInfo.InvariantCulture,
            $"fd={channel.Descriptor},rootmode=100000,user_id={LibcMount.geteuid()},group_id={LibcMount.getegid()},{CommonOptions(options.AllowOther != AllowOther.Off)}");
        const ulong flags = LibcMount.MS_NOSUID | LibcMount.MS_NODEV;
        return LibcMount.mount(options.FileSystemName, path, FileSystemType, flags, data) == 0 ? Errno.None : Libc.LastErrno;
    }

    private static (FuseMount Mount, FuseDeviceChannel Channel) MountByFusermount(string path, FuseExportOptions options)
    {
        string source = options.FileSystemName.Replace("\\", "\\\\", StringComparison.Ordinal).Replace(",", "\\,", StringComparison.Ordinal);
        string fusermountOptions = $"rw,nosuid,nodev,fsname={source},subtype={Subtype},";
        bool admitsOthers = options.AllowOther != AllowOther.Off;
        int fd;
        try
        {
            fd = FusermountCommand.Mount(path, fusermountOptions + CommonOptions(admitsOthers));
        }
        catch (BlockMountException) when (options.AllowOther == AllowOther.Auto)
        {
            admitsOthers = false;
            fd = FusermountCommand.Mount(path, fusermountOptions + CommonOptions(admitsOthers));
        }

        FuseDeviceChannel channel = new(fd);
        try
        {
            return (Mounted(path, byFusermount: true, admitsOthers), channel);
        }
        catch
        {
            channel.Dispose();
            throw;
        }
    }

    private static string CommonOptions(bool admitsOthers) =>
        string.Create(CultureInfo.InvariantCulture, $"{(admitsOthers ? "allow_other," : "")}default_permissions,max_read={FuseRequest.PayloadMax}");

    private static FuseMount Mounted(string path, bool byFusermount, bool admitsOthers) =>
        MountTable.FindTop(path) is { FileSystemType: FileSystemType } entry
            ? new FuseMount(path, entry, byFusermount, admitsOthers)
            : throw new BlockMountException($"The mount on '{path}' has vanished", "something else unmounts file systems here");

    private static string? Detach(string path, bool lazy, bool byFusermount)
    {
        if (byFusermount)
        {
            return FusermountCommand.Unmount(path, lazy);
        }

        int flags = LibcMount.UMOUNT_NOFOLLOW | (lazy ? LibcMount.MNT_DETACH : 0);
        return LibcMount.umount2(path, flags) == 0 ? null : ErrnoText.Describe(Libc.LastErrno);
    }

    private static unsafe Errno StatFile(string path, out StatxStruct status)
    {
        StatxStruct result = default;
        int outcome = LibcMount.statx(LibcMount.AT_FDCWD, path, 0, LibcMount.STATX_BASIC_STATS, &result);
        status = result;
        return outcome == 0 ? Errno.None : Libc.LastErrno;
    }

    // Null if a part of the path does not exist. Does not touch the file system mounted on the last part.
    private static unsafe string? Canonical(string path)
    {
        byte* buffer = stackalloc byte[4096];
        byte* result = LibcMount.realpath(path, buffer);
        return result == null ? null : Marshal.PtrToStringUTF8((nint)result);
    }
}
