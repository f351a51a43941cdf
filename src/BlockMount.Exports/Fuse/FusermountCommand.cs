using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using BlockMount.Base;
using BlockMount.Base.Interop;

namespace BlockMount.Exports.Fuse;

/// <summary>
/// Mounts and unmounts without privileges through the set-user-id program fusermount3, which passes the opened /dev/fuse back over a
/// socket (_FUSE_COMMFD).
/// </summary>
internal static class FusermountCommand
{
    private const string Program = "fusermount3";

    /// <summary>Mounts on the canonical path <paramref name="mountPoint"/> with mount(8)-style options.</summary>
    /// <returns>A descriptor of /dev/fuse, which the caller owns.</returns>
    /// <exception cref="BlockMountException">The program is missing or refused; its own words are in the message.</exception>
    internal static int Mount(string mountPoint, string options)
    {
        (int ours, int theirs) = CreateSocketPair();
        try
        {
            string complaint;
            int fd;
            try
            {
                using Process process = Start(["-o", options, "--", mountPoint], theirs);
                // Only the child must hold its end, or its exit would not end the wait for the descriptor.
                Close(ref theirs);
                fd = ReceiveDescriptor(ours);
                complaint = process.StandardError.ReadToEnd();
                process.WaitForExit();
            }
            finally
            {
                Close(ref theirs);
            }

            return fd >= 0 ? fd : throw Refused(mountPoint, complaint);
        }
        finally
        {
            Close(ref ours);
        }
    }

    /// <summary>Unmounts; with <paramref name="lazy"/> also while files are open.</summary>
    /// <returns>Null on success, otherwise what the program said.</returns>
    internal static string? Unmount(string mountPoint, bool lazy)
    {
        using Process process = Start(lazy ? ["-u", "-z", "--", mountPoint] : ["-u", "--", mountPoint], null);
        string complaint = process.StandardError.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0 ? null : complaint.Trim();
    }

    private static Process Start(string[] arguments, int? socket)
    {
        ProcessStartInfo start = new(Program, arguments) { RedirectStandardError = true, UseShellExecute = false };
        if (socket is int fd)
        {
            start.Environment["_FUSE_COMMFD"] = fd.ToString(CultureInfo.InvariantCulture);
        }

        try
        {
            return Process.Start(start)!;
        }
        catch (Win32Exception failure)
        {
            throw new BlockMountException(
                $"Could not start '{Program}', which mounts for users other than root: {failure.Message}",
                "install the package fuse3, or run as root",
                failure);
        }
    }

    private static unsafe (int Ours, int Theirs) CreateSocketPair()
    {
        int* sockets = stackalloc int[2];
        if (LibcMount.socketpair(LibcMount.AF_UNIX, LibcMount.SOCK_STREAM, 0, sockets) != 0)
        {
            throw new BlockIOException(Libc.LastErrno, "socketpair for fusermount3");
        }

        if (LibcMount.fcntl_int(sockets[0], LibcMount.F_SETFD, LibcMount.FD_CLOEXEC) != 0)
        {
            throw new BlockIOException(Libc.LastErrno, "close-on-exec of the socket for fusermount3");
        }

        return (sockets[0], sockets[1]);
    }

    // One byte comes along with the descriptor. -1 when the other side has gone without sending one.
    private static unsafe int ReceiveDescriptor(int socket)
    {
        byte data;
        IoVec vector = new() { Base = &data, Length = 1 };
        CmsgOneDescriptor control = default;
        MsgHdr message = new() { Vectors = &vector, VectorCount = 1, Control = &control, ControlLength = (nuint)sizeof(CmsgOneDescriptor) };
        nint length;
        do
        {
            length = LibcMount.recvmsg(socket, &message, LibcMount.MSG_CMSG_CLOEXEC);
        }
        while (length < 0 && Libc.LastErrno == Errno.EINTR);

        bool carriesDescriptor = length > 0
            && message.ControlLength >= 20
            && control.Level == LibcMount.SOL_SOCKET
            && control.Type == LibcMount.SCM_RIGHTS;
        return carriesDescriptor ? control.Descriptor : -1;
    }

    private static BlockMountException Refused(string mountPoint, string complaint)
    {
        string reason = complaint.Trim();
        string? hint = reason.Contains("user_allow_other", StringComparison.Ordinal)
            ? "add the line 'user_allow_other' to /etc/fuse.conf, or mount without allow-other"
            : "the mount point must be writable for you, and /dev/fuse must be there";
        return new BlockMountException($"Could not mount on '{mountPoint}': {(reason.Length > 0 ? reason : "fusermount3 gave no reason")}", hint);
    }

    private static void Close(ref int fd)
    {
        if (fd >= 0)
        {
            // Cannot fail in a way that matters: nothing was written.
            _ = Libc.close(fd);
            fd = -1;
        }
    }
}
