using BlockMount.Formats;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Damage;
using Xunit;

namespace BlockMount.Tests.Check;

/// <summary>Every damage of <see cref="DamageCatalog"/>: the same numbers and the same exit code as qemu-img check.</summary>
public sealed class DamagedImageTests : IDisposable
{
    private readonly ScratchFolder _folder = new();

    public static TheoryData<string> Cases { get; } = [.. DamageCatalog.All.Select(damage => damage.ToString())];

    public void Dispose() => _folder.Dispose();

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [MemberData(nameof(Cases))]
    public async Task Check_OfDamagedImage_CountsAsQemuImg(string name)
    {
        DamageCase damage = DamageCatalog.Get(name);
        byte[] image = await HarmAsync(damage);
        QemuImg.Verdict theirs = await QemuImg.CheckAsync(_folder["damaged"]);
        (int exitCode, CheckReport? report, string text) = await CheckAsync(image);
        string both = $"ours: {exitCode} {text}\ntheirs: {theirs.ExitCode} {theirs.Text}";
        if (damage.QemuDiffers is not null)
        {
            Assert.True(exitCode == 2 && theirs.ExitCode != 2, both);
            return;
        }

        Assert.True(theirs.ExitCode == exitCode, both);
        if (theirs.Numbers.Count > 0)
        {
            Assert.NotNull(report);
            Assert.True(Numbers(report).SequenceEqual(theirs.Numbers.OrderBy(pair => pair.Key, StringComparer.Ordinal)), both);
            Assert.Equal(0, report.CorruptionsUnknownToQemu);
        }
    }

    // A check that overlooks one kind of damage must not pass: each kind decides somewhere.
    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData(CheckFindingKind.RefcountTooLow)]
    [InlineData(CheckFindingKind.Leak)]
    [InlineData(CheckFindingKind.Misaligned)]
    [InlineData(CheckFindingKind.OutsideFile)]
    [InlineData(CheckFindingKind.CopiedFlag)]
    [InlineData(CheckFindingKind.ReservedBits)]
    [InlineData(CheckFindingKind.Overlap)]
    [InlineData(CheckFindingKind.Unreadable)]
    [InlineData(CheckFindingKind.Overflow)]
    [InlineData(CheckFindingKind.Unchecked)]
    public async Task CheckThatOverlooksAKind_DisagreesWithQemuImg(CheckFindingKind overlooked)
    {
        foreach (DamageCase damage in DamageCatalog.All.Where(damage => damage.QemuDiffers is null))
        {
            byte[] image = await HarmAsync(damage);
            (_, CheckReport? report, _) = await CheckAsync(image);
            int findings = report?.Findings.Count(finding => finding.Kind == overlooked) ?? 0;
            if (findings == 0)
            {
                continue;
            }

            QemuImg.Verdict theirs = await QemuImg.CheckAsync(_folder["damaged"]);
            long errors = theirs.Numbers.GetValueOrDefault("check-errors");
            (long, long, long) mutant = overlooked switch
            {
                CheckFindingKind.Leak => (report!.Corruptions, report.Leaks - findings, report.CheckErrors),
                CheckFindingKind.Unchecked => (report!.Corruptions, report.Leaks, report.CheckErrors - findings),
                _ => (report!.Corruptions - findings, report.Leaks, report.CheckErrors),
            };
            if (mutant != (theirs.Corruptions, theirs.Leaks, errors))
            {
                return;
            }
        }

        Assert.Fail($"no damage shows that {overlooked} is overlooked");
    }

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [MemberData(nameof(Cases))]
    public async Task Check_InSmallWindows_CountsAsInOne(string name)
    {
        byte[] image = await HarmAsync(DamageCatalog.Get(name));
        (_, CheckReport? whole, string text) = await CheckAsync(image);
        if (whole is null)
        {
            return;
        }

        await using MemoryFile file = new("damaged", readOnly: true, image);
        CheckReport parts = await ConsistencyCheck.RunAsync(file, new CheckOptions { WindowClusters = 7 });
        Assert.True(Numbers(whole).SequenceEqual(Numbers(parts)), $"{text}\nin windows: {parts}");
        Assert.Equal(whole.CorruptionsUnknownToQemu, parts.CorruptionsUnknownToQemu);
        Assert.Equal(whole.Damage.Ranges, parts.Damage.Ranges);
    }

    private static IEnumerable<KeyValuePair<string, long>> Numbers(CheckReport report)
    {
        Dictionary<string, long> numbers = new()
        {
            ["allocated-clusters"] = report.AllocatedClusters,
            ["check-errors"] = report.CheckErrors,
            ["compressed-clusters"] = report.CompressedClusters,
            ["corruptions"] = report.Corruptions,
            ["fragmented-clusters"] = report.FragmentedClusters,
            ["image-end-offset"] = report.ImageEndOffset,
            ["leaks"] = report.Leaks,
            ["total-clusters"] = report.TotalClusters,
        };
        return numbers.Where(pair => pair.Value != 0 || pair.Key == "check-errors").OrderBy(pair => pair.Key, StringComparer.Ordinal);
    }

    private static async Task<(int ExitCode, CheckReport? Report, string Text)> CheckAsync(byte[] image)
    {
        await using MemoryFile file = new("damaged", readOnly: true, image);
        try
        {
            CheckReport report = await ConsistencyCheck.RunAsync(file);
            return (report.ExitCode, report, report.ToString());
        }
        catch (ImageFormatException refused)
        {
            return (1, null, refused.Message);
        }
    }

    private async Task<byte[]> HarmAsync(DamageCase damage)
    {
        SoundImage sound = await SoundImage.GetAsync(damage.Recipe);
        ImageSurgeon surgeon = new(sound.Bytes);
        damage.Harm(surgeon);
        byte[] image = surgeon.Bytes.ToArray();
        await sound.PlaceDataFileAsync(_folder, image);
        await QemuImg.SaveAsync(_folder["damaged"], image);
        return image;
    }
}
