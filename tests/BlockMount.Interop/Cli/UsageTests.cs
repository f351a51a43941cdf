using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Cli;

/// <summary>Wrong command lines: exit code 2, words that help, nothing opened or made.</summary>
public sealed class UsageTests : CliFixture
{
    [RequiresFact(Needs.Release)]
    public async Task Run_NoArguments_ShowsUsageAndEndsWith2()
    {
        ToolResult result = await RunAsync();
        Assert.Equal(2, result.ExitCode);
        Assert.Contains("Usage: blockmount IMAGE MOUNTPOINT", result.Error, StringComparison.Ordinal);
    }

    [RequiresFact(Needs.Release)]
    public async Task Help_Asked_StaysUnder80ColumnsAndHasExamples()
    {
        foreach (string[] words in new string[][] { ["--help"], ["umount", "--help"], ["ls", "--help"], ["create", "--help"], ["info", "--help"] })
        {
            ToolResult result = (await RunAsync(words)).MustSucceed();
            Assert.All(result.Output.Split('\n'), line => Assert.InRange(line.Length, 0, 79));
        }

        Assert.Contains("Examples:", (await RunAsync("--help")).Output, StringComparison.Ordinal);
    }

    [RequiresFact(Needs.Release)]
    public async Task Version_Asked_IsOneLine()
    {
        ToolResult result = (await RunAsync("--version")).MustSucceed();
        Assert.Matches(@"^blockmount \d+\.\d+\.\d+\n$", result.Output);
    }

    [RequiresFact(Needs.Release)]
    public async Task Option_Mistyped_NamesTheNearMatch()
    {
        await FailsAsync(2, ["unknown option '--read-onyl'", "'--read-only'"], "a.img", "m", "--read-onyl");
        await FailsAsync(2, ["unknown option 'growble' in -o", "'growable'"], "a.img", "m", "-o", "growble");
        await FailsAsync(2, ["unknown option '--jsno'", "'--json'"], "ls", "--jsno");
        await FailsAsync(2, ["'raww' is not a format", "'raw'"], "a.img", "m", "-f", "raww");
    }

    [RequiresFact(Needs.Release)]
    public async Task Value_OutOfRange_NamesTheValueAndTheLimit()
    {
        await FailsAsync(2, ["'discard' in -o cannot be 'maybe'", "unmap or ignore"], "a.img", "m", "-o", "discard=maybe");
        await FailsAsync(2, ["'workers' in -o cannot be '900'", "up to 64"], "a.img", "m", "-o", "workers=900");
        await FailsAsync(2, ["'mode' in -o cannot be '888'", "octal"], "a.img", "m", "-o", "mode=888");
        await FailsAsync(2, ["--nbd 'nowhere' is not an address", "unix:PATH"], "a.img", "--nbd", "nowhere");
        await FailsAsync(2, ["is not a port"], "a.img", "--nbd", "localhost:99999");
    }

    [RequiresFact(Needs.Release)]
    public async Task MountPoint_MissingWithoutNbd_IsAUsageError()
    {
        await FailsAsync(2, ["nowhere to serve", "--nbd"], "a.img");
    }

    [RequiresFact(Needs.Release)]
    public async Task Arguments_Wrong_MakeNothing()
    {
        string image = MakeImage("a.img", 4096);
        await FailsAsync(2, ["unknown option"], image, this["m"], "--unknown");
        Assert.False(File.Exists(this["m"]));
        Assert.False(Directory.Exists(this["run"]));
    }

    private async Task FailsAsync(int exitCode, string[] words, params string[] arguments)
    {
        ToolResult result = await RunAsync(arguments);
        Assert.Equal(exitCode, result.ExitCode);
        Assert.StartsWith("blockmount: ", result.Error, StringComparison.Ordinal);
        Assert.All(words, word => Assert.Contains(word, result.Error, StringComparison.Ordinal));
        Assert.DoesNotContain("   at ", result.Error, StringComparison.Ordinal);
    }
}
