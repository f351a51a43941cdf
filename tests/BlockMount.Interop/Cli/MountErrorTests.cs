using System.Net;
using System.Net.Sockets;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Cli;

/// <summary>What cannot be mounted: exit code 1, what, why and what to do on standard error, and everything as before.</summary>
public sealed class MountErrorTests : CliFixture
{
    [RequiresReleaseFact]
    public async Task Image_Missing_IsNamedWithTheReason()
    {
        await FailsAsync(["nope.qcow2", "No such file or directory"], this["nope.qcow2"], this["m"]);
        Assert.False(File.Exists(this["m"]));
    }

    [RequiresReleaseFact]
    public async Task Image_NotQcow2_IsRefusedUnchanged()
    {
        string image = MakeImage("a.img", 1 << 16);
        byte[] before = File.ReadAllBytes(image);
        await FailsAsync([image, "qcow2"], image, this["m"], "-f", "qcow2");
        Assert.Equal(before, File.ReadAllBytes(image));
        Assert.False(File.Exists(this["m"]));
    }

    [RequiresReleaseFact]
    public async Task Image_IsADirectory_IsRefused()
    {
        Directory.CreateDirectory(this["folder"]);
        await FailsAsync(["folder"], this["folder"], this["m"], "-f", "raw");
    }

    [RequiresReleaseFact]
    public async Task MountPoint_IsADirectory_IsRefusedWithAnExample()
    {
        string image = MakeImage("a.img", 4096);
        Directory.CreateDirectory(this["folder"]);
        await FailsAsync(["is a directory", "disk.img"], image, this["folder"], "-f", "raw");
    }

    [RequiresReleaseFact]
    public async Task MountPoint_FolderMissing_IsNamed()
    {
        string image = MakeImage("a.img", 4096);
        await FailsAsync([this["none"], "No such file or directory", "Make the folder"], image, Path.Combine(this["none"], "m"), "-f", "raw");
    }

    [RequiresReleaseFact]
    public async Task MountPoint_SpecialFile_IsRefused()
    {
        string image = MakeImage("a.img", 4096);
        await FailsAsync(["is not a regular file"], image, "/dev/null", "-f", "raw");
    }

    [RequiresReleaseFact]
    public async Task MountPoint_Unwritable_IsRefused()
    {
        // A kernel file system takes no new files, not even from root.
        string image = MakeImage("a.img", 4096);
        await FailsAsync(["/proc/blockmount-test"], image, "/proc/blockmount-test", "-f", "raw");
        Assert.Empty(await PidsAsync());
    }

    [RequiresReleaseFact]
    public async Task MountPoint_InUseByAnotherDaemon_NamesTheUmount()
    {
        string first = MakeImage("a.img", 4096);
        string second = MakeImage("b.img", 4096);
        (await RunAsync(first, this["m"], "-f", "raw")).MustSucceed();
        await FailsAsync(["already shows", first, "blockmount umount"], second, this["m"], "-f", "raw");
        Assert.Equal(File.ReadAllBytes(first), File.ReadAllBytes(this["m"]));
    }

    [RequiresReleaseFact]
    public async Task Port_InUse_IsNamed()
    {
        string image = MakeImage("a.img", 4096);
        using Socket taken = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        taken.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        taken.Listen();
        int port = ((IPEndPoint)taken.LocalEndPoint!).Port;
        await FailsAsync([$"127.0.0.1:{port}", "in use"], image, this["m"], "-f", "raw", "--nbd", $"127.0.0.1:{port}");
        Assert.False(File.Exists(this["m"]));
    }

    [RequiresReleaseFact]
    public async Task Image_OpenInAnotherDaemon_NamesItsPid()
    {
        string image = MakeImage("a.img", 4096);
        (await RunAsync(image, this["m"], "-f", "raw")).MustSucceed();
        int pid = (await PidsAsync())[0];
        await FailsAsync([image, "\"write\" lock", $"process {pid}"], image, this["n"], "-f", "raw");
        Assert.False(File.Exists(this["n"]));
    }

    [RequiresReleaseFact("qemu-io")]
    public async Task Image_LockedByQemu_NamesQemu()
    {
        string image = MakeImage("a.img", 1 << 20);
        using System.Diagnostics.Process qemu = ToolProcess.Start("qemu-io", "-f", "raw", image);
        try
        {
            await qemu.StandardInput.WriteLineAsync("length");
            await qemu.StandardInput.FlushAsync();
            _ = await qemu.StandardOutput.ReadLineAsync();
            await FailsAsync(["lock", "qemu-io"], image, this["m"], "-f", "raw");
        }
        finally
        {
            qemu.Kill();
            await qemu.WaitForExitAsync();
        }
    }

    [RequiresReleaseFact]
    public async Task Id_TakenByAnotherDaemon_IsRefused()
    {
        string first = MakeImage("a.img", 4096);
        string second = MakeImage("b.img", 4096);
        (await RunAsync(first, this["m"], "-f", "raw", "--id", "disk")).MustSucceed();
        await FailsAsync(["the id 'disk' is taken"], second, this["n"], "-f", "raw", "--id", "disk");
    }

    private async Task FailsAsync(string[] words, params string[] arguments)
    {
        ToolResult result = await RunAsync(arguments);
        Assert.Equal(1, result.ExitCode);
        Assert.StartsWith("blockmount: ", result.Error, StringComparison.Ordinal);
        Assert.All(words, word => Assert.Contains(word, result.Error, StringComparison.Ordinal));
        Assert.DoesNotContain("internal error", result.Error, StringComparison.Ordinal);
    }
}
