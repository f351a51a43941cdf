using System.Diagnostics;
using System.Security.Cryptography;
using System.Text.Json;
using BlockMount.Storage;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Damage;
using Xunit;

namespace BlockMount.Interop.Cli;

/// <summary>'blockmount check' beside qemu-img check: the same words, numbers, exit codes and locks.</summary>
public sealed class CheckTests : CliFixture
{
    private const long PeakBytesMax = 200L << 20;

    [RequiresTheory(Needs.Release, "qemu-img", "qemu-io")]
    [InlineData("4k: unused clusters at the end", 0)]
    [InlineData("4k: dirty bit", 0)]
    [InlineData("4k: refcount of data is 0", 2)]
    [InlineData("everything: all COPIED flags cleared", 2)]
    [InlineData("512: data cluster leaked", 3)]
    [InlineData("compressed: compressed cluster leaked", 3)]
    [InlineData("4k: refcount block misaligned", 1)]
    [InlineData("4k: unknown incompatible bit", 1)]
    public async Task Check_OfImage_AnswersAsQemuImg(string name, int exitCode)
    {
        await HarmAsync(name);
        ToolResult theirs = await ToolProcess.RunAsync("qemu-img", "check", this["image"]);
        ToolResult ours = await RunAsync("check", this["image"]);
        Assert.Equal((exitCode, exitCode), (theirs.ExitCode, ours.ExitCode));
        Assert.Equal(theirs.Output, ours.Output);
        ToolResult theirJson = await ToolProcess.RunAsync("qemu-img", "check", "--output", "json", this["image"]);
        ToolResult ourJson = await RunAsync("check", "--output", "json", this["image"]);
        Assert.Equal(Fields(theirJson.Output), Fields(ourJson.Output));
        Assert.Equal("", (await RunAsync("check", "-q", this["image"])).Output);
    }

    [RequiresFact(Needs.Release, "qemu-img", "qemu-io")]
    public async Task Repair_ThenUndo_GivesTheOldImageBack()
    {
        await HarmAsync("everything: many damages at once");
        byte[] hash = SHA256.HashData(await File.ReadAllBytesAsync(this["image"]));
        ToolResult damaged = await RunAsync("check", this["image"]);
        Assert.Equal(2, damaged.ExitCode);
        Assert.Contains("Guest ranges of", damaged.Output, StringComparison.Ordinal);

        ToolResult repaired = (await RunAsync("check", "-r", "all", this["image"])).MustSucceed();
        Assert.Contains("Double checking the fixed image now...\n", repaired.Output, StringComparison.Ordinal);
        Assert.Contains("No errors were found on the image.\n", repaired.Output, StringComparison.Ordinal);
        Assert.Equal(0, (await QemuImg.CheckAsync(this["image"])).ExitCode);

        ToolResult again = await RunAsync("check", "-r", "all", this["image"]);
        Assert.Equal(1, again.ExitCode);
        Assert.Contains("image.check-undo' exists", again.Error, StringComparison.Ordinal);

        (await RunAsync("check", "--undo", this["image.check-undo"], this["image"])).MustSucceed();
        Assert.Equal(hash, SHA256.HashData(await File.ReadAllBytesAsync(this["image"])));

        ToolResult json = (await RunAsync("check", "-r", "all", "--output", "json", "--undo-file", this["other-undo"], this["image"])).MustSucceed();
        using JsonDocument document = JsonDocument.Parse(json.Output);
        Assert.True(document.RootElement.GetProperty("corruptions-fixed").GetInt64() > 0);
        Assert.True(document.RootElement.GetProperty("blockmount").GetProperty("guest-ranges").GetArrayLength() > 0);
        Assert.True(File.Exists(this["other-undo"]));
    }

    [RequiresFact(Needs.Release, "qemu-img", "qemu-io")]
    public async Task Repair_OfSoundImage_ChangesNothingAndLeavesNoUndoFile()
    {
        await File.WriteAllBytesAsync(this["image"], (await SoundImage.GetAsync("snapshots")).Bytes);
        byte[] hash = SHA256.HashData(await File.ReadAllBytesAsync(this["image"]));
        (await RunAsync("check", "-r", "all", this["image"])).MustSucceed();
        Assert.Equal(hash, SHA256.HashData(await File.ReadAllBytesAsync(this["image"])));
        Assert.False(File.Exists(this["image.check-undo"]));
    }

    [RequiresFact(Needs.Release, "qemu-img", "qemu-io")]
    public async Task RepairLeaks_OfStructureThatMustBeMadeAnew_FailsAsQemuImg()
    {
        await HarmAsync("512: refcount table entry is 0");
        byte[] image = await File.ReadAllBytesAsync(this["image"]);
        ToolResult ours = await RunAsync("check", "-r", "leaks", this["image"]);
        Assert.Equal(1, ours.ExitCode);
        Assert.Contains("-r all", ours.Error, StringComparison.Ordinal);
        Assert.Equal(image, await File.ReadAllBytesAsync(this["image"]));
        Assert.Equal(1, (await ToolProcess.RunAsync("qemu-img", "check", "-r", "leaks", this["image"])).ExitCode);
    }

    [RequiresFact(Needs.Release, "qemu-img", "qemu-io")]
    public async Task Check_OfOtherFormatsAndLockedImages_HasTheirExitCodes()
    {
        string raw = MakeImage("raw", 65536);
        Assert.Equal((63, 63), ((await RunAsync("check", raw)).ExitCode, (await ToolProcess.RunAsync("qemu-img", "check", "-f", "raw", raw)).ExitCode));
        Assert.Equal(1, (await RunAsync("check", this["nothing"])).ExitCode);
        Assert.Equal(2, (await RunAsync("check", "-r", "some", raw)).ExitCode);

        await File.WriteAllBytesAsync(this["image"], (await SoundImage.GetAsync("4k")).Bytes);
        await using (StorageFile writer = await PosixStorage.Instance.OpenAsync(this["image"], new StorageOpenOptions()))
        {
            Assert.Equal(1, (await RunAsync("check", this["image"])).ExitCode);
            (await RunAsync("check", "-U", this["image"])).MustSucceed();
        }

        await using StorageFile reader = await PosixStorage.Instance.OpenAsync(this["image"], new StorageOpenOptions { ReadOnly = true });
        (await RunAsync("check", this["image"])).MustSucceed();
        Assert.Equal(1, (await RunAsync("check", "-r", "all", this["image"])).ExitCode);
    }

    // 1 TiB of mapped clusters; their data is a hole in the file.
    [RequiresFact(Needs.Release)]
    public async Task CheckAndRepair_Of1TiB_StayBelow200MiBAndShowProgress()
    {
        await LargeImage.WriteAsync(this["large"]);
        (ToolResult check, long peak) = await MeasureAsync("check", "-p", this["large"]);
        check.MustSucceed();
        Assert.Contains("(100.00/100%)", check.Output, StringComparison.Ordinal);
        Assert.Contains("16777216/16777216 = 100.00% allocated", check.Output, StringComparison.Ordinal);
        Assert.InRange(peak, 1, PeakBytesMax);

        await LargeImage.HarmAsync(this["large"]);
        Assert.Equal(2, (await RunAsync("check", this["large"])).ExitCode);
        (ToolResult repair, peak) = await MeasureAsync("check", "-r", "all", this["large"]);
        repair.MustSucceed();
        Assert.InRange(peak, 1, PeakBytesMax);
    }

    private async Task HarmAsync(string name)
    {
        DamageCase damage = DamageCatalog.Get(name);
        ImageSurgeon surgeon = new((await SoundImage.GetAsync(damage.Recipe)).Bytes);
        damage.Harm(surgeon);
        await File.WriteAllBytesAsync(this["image"], surgeon.Bytes);
    }

    private static SortedDictionary<string, string> Fields(string json)
    {
        SortedDictionary<string, string> fields = new(StringComparer.Ordinal);
        if (json.Contains('{', StringComparison.Ordinal))
        {
            using JsonDocument document = JsonDocument.Parse(json[json.IndexOf('{', StringComparison.Ordinal)..]);
            foreach (JsonProperty field in document.RootElement.EnumerateObject().Where(field => field.Name != "blockmount"))
            {
                fields.Add(field.Name, field.Value.ToString());
            }
        }

        return fields;
    }

    // The peak that the kernel tells of a process at its end.
    private async Task<(ToolResult Result, long PeakBytes)> MeasureAsync(params string[] arguments)
    {
        Task<ToolResult> run = ToolProcess.RunAsync(
            TimeSpan.FromMinutes(3), "/bin/sh", ["-c", "echo $$ > \"$0\"; exec \"$@\"", this["pid"], ReleaseBinary.FullPath, .. arguments]);
        long peak = 0;
        while (!run.IsCompleted)
        {
            peak = Math.Max(peak, PeakOf(this["pid"]));
            await Task.WhenAny(run, Task.Delay(10));
        }

        File.Delete(this["pid"]);
        return (await run, peak);
    }

    private static long PeakOf(string pidFile)
    {
        try
        {
            using Process process = Process.GetProcessById(int.Parse(File.ReadAllText(pidFile), System.Globalization.CultureInfo.InvariantCulture));
            return process.PeakWorkingSet64;
        }
        catch (Exception e) when (e is IOException or FormatException or ArgumentException or InvalidOperationException)
        {
            // Not started yet, or gone.
            return 0;
        }
    }
}
