using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Serving;

/// <summary>Proves that a file system lives on a mounted chain: loop device, mkfs, a tree of files, fsck, and the tree again after a remount.</summary>
public sealed class FileSystemTests : ServedImageFixture
{
    private readonly List<string> _loops = [];
    private readonly List<string> _mounts = [];

    [RequiresFact(Needs.Release | Needs.Fuse | Needs.Loop, "qemu-img", "losetup", "mkfs.ext4", "fsck.ext4", "mount")]
    public async Task Ext4OnLoop_TreeCopied_SurvivesFsckAndRemount()
    {
        string below = await CreateAsync("base.qcow2", "cluster_size=65536", 96 << 20);
        string image = await CreateAsync("a.qcow2", "cluster_size=65536", 96 << 20, below, "qcow2");
        MakeTree(this["tree"]);
        try
        {
            string loop = await AttachAsync(await MountAsync(image));
            await Tool("mkfs.ext4", "-q", "-F", loop);
            await MountFileSystemAsync(loop);
            await Tool("cp", "-a", this["tree"], this["fs"] + "/tree");
            await UnmountFileSystemAsync();
            await Tool("fsck.ext4", "-f", "-n", loop);
            await DetachAsync(loop);
            await UmountAsync();
            Assert.Equal(0, (await QemuImg.CheckAsync(image)).ExitCode);

            loop = await AttachAsync(await MountAsync(image));
            await MountFileSystemAsync(loop);
            await Tool("diff", "-r", this["tree"], this["fs"] + "/tree");
            long before = new FileInfo(image).Length;
            await Tool("rm", "-r", this["fs"] + "/tree");
            // ext4 trims only what its journal has freed.
            await Tool("sync", "--file-system", this["fs"]);
            await Tool("fstrim", this["fs"]);
            await UnmountFileSystemAsync();
            await DetachAsync(loop);
            await UmountAsync();
            Assert.Equal(0, (await QemuImg.CheckAsync(image)).ExitCode);
            // Discards reached the image and the host file: it holds less than the tree alone did.
            long blocks = long.Parse((await Tool("stat", "-c", "%b", image)).Trim()) * 512;
            Assert.True(blocks < before / 2, $"{blocks} of {before} bytes are still allocated after fstrim");
        }
        finally
        {
            await CleanUpAsync();
        }
    }

    private static void MakeTree(string root)
    {
        Random random = new(1);
        for (int folder = 0; folder < 8; folder++)
        {
            string path = Directory.CreateDirectory(Path.Combine(root, $"folder{folder}")).FullName;
            for (int file = 0; file < 40; file++)
            {
                byte[] content = new byte[random.Next(100_000)];
                random.NextBytes(content);
                File.WriteAllBytes(Path.Combine(path, $"file{file}"), content);
            }
        }
    }

    private async Task<string> AttachAsync(string disk)
    {
        string loop = (await Tool("losetup", "--find", "--show", disk)).Trim();
        _loops.Add(loop);
        return loop;
    }

    private async Task DetachAsync(string loop)
    {
        await Tool("losetup", "-d", loop);
        _loops.Remove(loop);
    }

    private async Task MountFileSystemAsync(string loop)
    {
        Directory.CreateDirectory(this["fs"]);
        await Tool("mount", loop, this["fs"]);
        _mounts.Add(this["fs"]);
    }

    private async Task UnmountFileSystemAsync()
    {
        await Tool("umount", this["fs"]);
        _mounts.Clear();
    }

    private async Task CleanUpAsync()
    {
        foreach (string mount in _mounts)
        {
            await ToolProcess.RunAsync("umount", "-l", mount);
        }

        foreach (string loop in _loops)
        {
            await ToolProcess.RunAsync("losetup", "-d", loop);
        }
    }

    private static async Task<string> Tool(string program, params string[] arguments) =>
        (await ToolProcess.RunAsync(program, arguments)).MustSucceed().Output;
}
