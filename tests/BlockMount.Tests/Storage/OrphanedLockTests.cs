using System.Runtime.InteropServices;
using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Storage;
using Xunit;

namespace BlockMount.Tests.Storage;

/// <summary>
/// Locks whose process is gone. The kernel keeps the files of one that was killed open until their io_uring requests have ended; here a file lives on in a message
/// that nobody has received.
/// </summary>
public sealed partial class OrphanedLockTests : IDisposable
{
    // "Nobody else may write."
    private const int UnsharedWrite = 201;

    private readonly TemporaryFolder _folder = new();
    private readonly int[] _sockets = new int[2];

    public void Dispose()
    {
        CloseSockets();
        _folder.Dispose();
    }

    [Fact]
    public async Task Open_LockOfNobodyGoesSoon_IsAdmitted()
    {
        string path = _folder.Create("image", new byte[65536]);
        LeaveLock(path);
        Task<StorageFile> opening = Task.Run(async () => await PosixStorage.Instance.OpenAsync(path, new StorageOpenOptions()));
        await Task.Delay(200);
        Assert.False(opening.IsCompleted);
        CloseSockets();
        await (await opening.WaitAsync(TimeSpan.FromSeconds(20))).DisposeAsync();
    }

    [Fact]
    public async Task Open_LockOfNobodyStays_IsRefused()
    {
        string path = _folder.Create("image", new byte[65536]);
        LeaveLock(path);
        BlockMountException error = await Assert.ThrowsAnyAsync<BlockMountException>(async () => await PosixStorage.Instance.OpenAsync(path, new StorageOpenOptions()));
        Assert.Equal($"Could not open '{path}': Failed to get \"write\" lock", error.Message);
    }

    private unsafe void LeaveLock(string path)
    {
        int fd = Libc.open(path, LinuxConstants.O_RDWR | LinuxConstants.O_CLOEXEC, 0);
        FlockStruct request = new() { Type = LinuxConstants.F_RDLCK, Whence = 0, Start = UnsharedWrite, Length = 1, Pid = 0 };
        Assert.Equal(0, Libc.fcntl(fd, LinuxConstants.F_OFD_SETLK, &request));
        fixed (int* sockets = _sockets)
        {
            Assert.Equal(0, LibcMount.socketpair(LibcMount.AF_UNIX, LibcMount.SOCK_STREAM, 0, sockets));
        }

        byte data = 0;
        IoVec vector = new() { Base = &data, Length = 1 };
        CmsgOneDescriptor control = new() { Length = 20, Level = LibcMount.SOL_SOCKET, Type = LibcMount.SCM_RIGHTS, Descriptor = fd };
        MsgHdr message = new() { Vectors = &vector, VectorCount = 1, Control = &control, ControlLength = (nuint)sizeof(CmsgOneDescriptor) };
        Assert.Equal(1, sendmsg(_sockets[0], &message, 0));
        Assert.Equal(0, Libc.close(fd));
    }

    private void CloseSockets()
    {
        foreach (ref int socket in _sockets.AsSpan())
        {
            if (socket > 0)
            {
                _ = Libc.close(socket);
                socket = 0;
            }
        }
    }

    [LibraryImport("libc")]
    private static unsafe partial nint sendmsg(int socket, MsgHdr* message, int flags);
}
