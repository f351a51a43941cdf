using System.Diagnostics;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Cli;

/// <summary>A daemon's life seen from the shell: ready, serving, unmounted, killed, restarted.</summary>
public sealed class MountLifeTests : CliFixture
{
    [RequiresReleaseFact]
    public async Task Mount_InBackground_AnswersWhenTheCommandReturns()
    {
        string image = MakeImage("a.img", 1 << 20);
        ToolResult result = (await RunAsync(image, this["m"], "-f", "raw")).MustSucceed();
        Assert.Equal("", result.Output + result.Error);
        Assert.Equal(File.ReadAllBytes(image), File.ReadAllBytes(this["m"]));
    }

    [RequiresReleaseFact]
    public async Task Mount_InBackground_LeavesTerminalAndFolder()
    {
        string image = MakeImage("a.img", 4096);
        (await RunAsync(image, this["m"], "-f", "raw")).MustSucceed();
        string process = $"/proc/{(await PidsAsync())[0]}";
        Assert.Equal("/", new FileInfo($"{process}/cwd").LinkTarget);
        foreach (string stream in new[] { "0", "1", "2" })
        {
            Assert.Equal("/dev/null", new FileInfo($"{process}/fd/{stream}").LinkTarget);
        }

        string stat = File.ReadAllText($"{process}/stat");
        string[] fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
        Assert.Equal("0", fields[7 - 3]);
    }

    [RequiresReleaseFact]
    public async Task Umount_AfterWrites_ReturnsWhenTheImageIsFree()
    {
        string image = MakeImage("a.img", 1 << 20);
        (await RunAsync(image, this["m"], "-f", "raw")).MustSucceed();
        int pid = (await PidsAsync())[0];
        byte[] data = new byte[1 << 20];
        new Random(7).NextBytes(data);
        await using (FileStream file = new(this["m"], FileMode.Open, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0))
        {
            await file.WriteAsync(data);
        }

        (await RunAsync("umount", this["m"])).MustSucceed();
        Assert.False(HoldsOpen(pid, image));
        Assert.Equal(data, File.ReadAllBytes(image));
        Assert.False(File.Exists(this["m"]));
        Assert.Empty(Directory.GetFiles(this["run"], "*.json"));
        (await RunAsync(image, this["m"], "-f", "raw")).MustSucceed();
    }

    [RequiresReleaseFact("umount")]
    public async Task Umount_ByTheSystem_EndsTheDaemon()
    {
        string image = MakeImage("a.img", 4096);
        (await RunAsync(image, this["m"], "-f", "raw")).MustSucceed();
        int pid = (await PidsAsync())[0];
        (await ToolProcess.RunAsync("umount", this["m"])).MustSucceed();
        await EndsAsync(pid);
        Assert.Empty(await PidsAsync());
    }

    [RequiresReleaseFact]
    public async Task Umount_ById_Works()
    {
        string image = MakeImage("a.img", 4096);
        (await RunAsync(image, this["m"], "-f", "raw", "--id", "disk7")).MustSucceed();
        (await RunAsync("umount", "disk7")).MustSucceed();
        Assert.Empty(await PidsAsync());
    }

    [RequiresReleaseFact]
    public async Task Umount_NothingMounted_Fails()
    {
        ToolResult result = await RunAsync("umount", this["m"]);
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("nothing is mounted", result.Error, StringComparison.Ordinal);
    }

    [RequiresReleaseFact("sleep")]
    public async Task Umount_Busy_NamesTheHolderAndChangesNothing()
    {
        string image = MakeImage("a.img", 4096);
        (await RunAsync(image, this["m"], "-f", "raw")).MustSucceed();
        using Process holder = ToolProcess.Start("/bin/sh", "-c", $"exec 7<'{this["m"]}'; echo held; exec sleep 60");
        try
        {
            _ = await holder.StandardOutput.ReadLineAsync();
            ToolResult result = await RunAsync("umount", this["m"]);
            Assert.Equal(1, result.ExitCode);
            Assert.Contains($"pid {holder.Id} (", result.Error, StringComparison.Ordinal);
            Assert.Equal(File.ReadAllBytes(image), File.ReadAllBytes(this["m"]));
        }
        finally
        {
            holder.Kill();
            await holder.WaitForExitAsync();
        }

        (await RunAsync("umount", this["m"])).MustSucceed();
    }

    [RequiresReleaseFact]
    public async Task MountPoint_ExistedBefore_IsKeptWithItsContent()
    {
        string image = MakeImage("a.img", 4096);
        await File.WriteAllTextAsync(this["m"], "mine");
        (await RunAsync(image, this["m"], "-f", "raw")).MustSucceed();
        Assert.Equal(4096, new FileInfo(this["m"]).Length);
        (await RunAsync("umount", this["m"])).MustSucceed();
        Assert.Equal("mine", await File.ReadAllTextAsync(this["m"]));
    }

    [RequiresReleaseFact]
    public async Task MountPoint_IsTheImageItself_Works()
    {
        string image = MakeImage("a.img", 1 << 16);
        byte[] content = File.ReadAllBytes(image);
        (await RunAsync(image, image, "-f", "raw")).MustSucceed();
        Assert.Equal(content, File.ReadAllBytes(image));
        (await RunAsync("umount", image)).MustSucceed();
        Assert.Equal(content, File.ReadAllBytes(image));
    }

    [RequiresReleaseFact]
    public async Task Daemon_Killed_SameCommandWorksAgainAndCleansUp()
    {
        string image = MakeImage("a.img", 1 << 16);
        string socket = this["s"];
        string[] command = [image, this["m"], "-f", "raw", "--nbd", $"unix:{socket}"];
        for (int round = 0; round < 3; round++)
        {
            (await RunAsync(command)).MustSucceed();
            await KillAsync((await PidsAsync())[0]);
        }

        (await RunAsync(command)).MustSucceed();
        Assert.Equal(File.ReadAllBytes(image), File.ReadAllBytes(this["m"]));
        Assert.Single(await PidsAsync());
        (await RunAsync("umount", this["m"])).MustSucceed();
        Assert.False(File.Exists(this["m"]));
        Assert.False(File.Exists(socket));
    }

    [RequiresReleaseFact]
    public async Task Umount_DaemonKilled_ClearsTheDeadMount()
    {
        string image = MakeImage("a.img", 4096);
        (await RunAsync(image, this["m"], "-f", "raw")).MustSucceed();
        await KillAsync((await PidsAsync())[0]);
        ToolResult result = (await RunAsync("umount", this["m"])).MustSucceed();
        Assert.Contains("had died before", result.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(this["m"]));
    }

    [RequiresReleaseFact]
    public async Task Foreground_Terminated_UnmountsAndEndsWith0()
    {
        string image = MakeImage("a.img", 4096);
        using Process daemon = ToolProcess.Start(
            "/usr/bin/env", $"BLOCKMOUNT_RUNTIME_DIR={this["run"]}", ReleaseBinary.FullPath, image, this["m"], "-f", "raw", "--foreground");
        string? line = await daemon.StandardOutput.ReadLineAsync();
        Assert.Contains("serving", line, StringComparison.Ordinal);
        (await ToolProcess.RunAsync("kill", "-TERM", daemon.Id.ToString())).MustSucceed();
        using CancellationTokenSource patience = new(TimeSpan.FromSeconds(20));
        await daemon.WaitForExitAsync(patience.Token);
        Assert.Equal(0, daemon.ExitCode);
        Assert.False(File.Exists(this["m"]));
    }

    [RequiresReleaseFact]
    public async Task Ls_TwoDaemons_ShowsUserModeAndPlaces()
    {
        string image = MakeImage("a.img", 1 << 16);
        string other = MakeImage("b.img", 1 << 16);
        (await RunAsync(image, this["m"], "-f", "raw")).MustSucceed();
        (await RunAsync(other, "-f", "raw", "-o", "ro", "--nbd", $"unix:{this["s"]}")).MustSucceed();
        string[] lines = (await RunAsync("ls")).MustSucceed().Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(3, lines.Length);
        // The user's name comes through Mono.Posix and its native half, in the trimmed program.
        Assert.Matches($@"^a +\d+ +{Environment.UserName} +raw +1 +rw +serving +{image} +{this["m"]}", lines[1]);
        Assert.Matches($@"^b +\d+ +{Environment.UserName} +raw +1 +ro +serving +{other} +- +nbd\+unix:///\?socket=", lines[2]);
        (await RunAsync("umount", "b")).MustSucceed();
        Assert.Single(await PidsAsync());
    }

    [RequiresReleaseFact("nbdinfo")]
    public async Task Nbd_BesideTheMount_SeesTheSameBytesAtOnce()
    {
        string image = MakeImage("a.img", 1 << 20);
        (await RunAsync(image, this["m"], "-f", "raw", "--nbd", $"unix:{this["s"]}", "--export-name", "disk")).MustSucceed();
        string uri = $"nbd+unix:///disk?socket={this["s"]}";
        ToolResult size = (await ToolProcess.RunAsync("nbdinfo", "--size", uri)).MustSucceed();
        Assert.Equal("1048576", size.Output.Trim());
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(this["s"]));
        byte[] data = new byte[4096];
        new Random(3).NextBytes(data);
        await using (FileStream file = new(this["m"], FileMode.Open, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0))
        {
            await file.WriteAsync(data);
        }

        (await ToolProcess.RunAsync("nbdcopy", uri, this["copy"])).MustSucceed();
        Assert.Equal(data, File.ReadAllBytes(this["copy"])[..4096]);
    }

    [RequiresReleaseFact]
    public async Task LogFile_Given_TellsTheDaemonsLife()
    {
        string image = MakeImage("a.img", 4096);
        (await RunAsync(image, this["m"], "-f", "raw", "--log-file", this["log"])).MustSucceed();
        (await RunAsync("umount", this["m"])).MustSucceed();
        string log = await File.ReadAllTextAsync(this["log"]);
        Assert.Contains($"info Daemon: serving {image}", log, StringComparison.Ordinal);
        Assert.Contains("ending: unmounted", log, StringComparison.Ordinal);
    }

    private static bool HoldsOpen(int pid, string path)
    {
        string folder = $"/proc/{pid}/fd";
        return Directory.Exists(folder) && Directory.EnumerateFileSystemEntries(folder).Any(fd => new FileInfo(fd).LinkTarget == path);
    }

    private static async Task EndsAsync(int pid)
    {
        Stopwatch watch = Stopwatch.StartNew();
        while (Directory.Exists($"/proc/{pid}") && File.ReadAllText($"/proc/{pid}/stat").Contains(") Z ", StringComparison.Ordinal) is false)
        {
            Assert.True(watch.Elapsed < TimeSpan.FromSeconds(10), "the daemon goes on after its mount has gone");
            await Task.Delay(20);
        }
    }
}
