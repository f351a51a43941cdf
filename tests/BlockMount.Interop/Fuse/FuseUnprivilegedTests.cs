using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Exports.Fuse;
using BlockMount.Formats.Raw;
using BlockMount.TestSupport;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace BlockMount.Interop.Fuse;

/// <summary>Mounting as a user without privileges, through fusermount3.</summary>
public sealed class FuseUnprivilegedTests
{
    [NobodyMountsFact]
    public void Nobody_AllowOtherAuto_MountsServesAndUnmounts()
    {
        using ScratchFolder folder = new();
        string mountPoint = PrepareMountPoint(folder);
        byte[] content = [1, 2, 3, 4];

        byte[] seen = OtherUser.Run(() => ServeOnce(mountPoint, AllowOther.Auto, content));

        Assert.Equal(content, seen);
        Assert.Equal("below", File.ReadAllText(mountPoint));
    }

    [NobodyMountsFact]
    public void Nobody_AllowOtherOnWithoutPermission_IsToldWhatToChange()
    {
        bool permitted = File.Exists("/etc/fuse.conf") && File.ReadLines("/etc/fuse.conf").Any(line => line.Trim() == "user_allow_other");
        using ScratchFolder folder = new();
        string mountPoint = PrepareMountPoint(folder);

        if (permitted)
        {
            Assert.Equal([7], OtherUser.Run(() => ServeOnce(mountPoint, AllowOther.On, [7])));
            return;
        }

        InvalidOperationException failure = Assert.Throws<InvalidOperationException>(
            () => OtherUser.Run(() => ServeOnce(mountPoint, AllowOther.On, [7])));
        BlockMountException reason = Assert.IsType<BlockMountException>(failure.InnerException);
        Assert.Contains("user_allow_other", reason.Message, StringComparison.Ordinal);
        Assert.Contains("/etc/fuse.conf", reason.Hint, StringComparison.Ordinal);
        Assert.Equal("below", File.ReadAllText(mountPoint));
    }

    private static string PrepareMountPoint(ScratchFolder folder)
    {
        File.SetUnixFileMode(folder.FullPath, (UnixFileMode)0b111_101_101);
        string mountPoint = folder["disk"];
        File.WriteAllText(mountPoint, "below");
        File.SetUnixFileMode(mountPoint, (UnixFileMode)0b110_110_110);
        return mountPoint;
    }

    // All on one thread, because the rights belong to it; only the workers run elsewhere, and they need none.
    private static byte[] ServeOnce(string mountPoint, AllowOther allowOther, byte[] content)
    {
        FuseExportOptions options = new() { MountPoint = mountPoint, FileSystemName = "memory", AllowOther = allowOther };
        BlockDevice device = new("d", new FormatNode("d", "m", new RawDriver(new MemoryFile(content: content)), null), readOnly: false);
        ILogger logger = NullLogger.Instance;
        (FuseMount mount, FuseDeviceChannel channel) = FuseMount.Create(options);
        FuseSession session;
        using (FuseRequest request = new())
        {
            FuseHandshake.Run(channel, request);
        }

        FuseFileAttributes attributes = new(device, options, writable: true, mount.AdmitsOthers, TimeProvider.System);
        FuseFileOperations file = new(device, attributes, writable: true, growable: false);
        FuseDispatcher dispatcher = new(file, new FuseSpaceOperations(device, file), logger, "test");
        session = new FuseSession("test", [channel, channel.Clone()], dispatcher, logger);
        session.Start();
        try
        {
            return File.ReadAllBytes(mountPoint);
        }
        finally
        {
            Assert.Null(mount.TryUnmount(lazy: false));
            Assert.True(session.Completion.Wait(TimeSpan.FromSeconds(20)));
        }
    }
}
