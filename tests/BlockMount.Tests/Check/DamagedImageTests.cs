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
        if (sound.DataFile is { } data)
        {
            await File.WriteAllBytesAsync(_folder[SoundImage.DataFileName], data);
        }

        await QemuImg.SaveAsync(_folder["damaged"], surgeon.Bytes);
        return surgeon.Bytes.ToArray();
    }
}
