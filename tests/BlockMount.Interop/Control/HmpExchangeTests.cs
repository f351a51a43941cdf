using System.Text.RegularExpressions;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Control;

/// <summary>
/// The same lines for the human monitors of qemu-system-x86_64 and of the release binary: equal answers, or a line in docs/qmp-differences.md that gives the reason.
/// </summary>
public sealed partial class HmpExchangeTests : QemuSystemFixture
{
    [RequiresReleaseFact("qemu-img", "qemu-system-x86_64", "stdbuf")]
    public async Task TheAnswersAreThoseOfQemuOrListed()
    {
        string[] lines = [.. (await File.ReadAllLinesAsync(Path.Combine(SourceTree.Root, "tests/BlockMount.Interop/Control/hmp-exchanges.txt")))
            .Where(line => line.Length > 0 && !line.StartsWith('#'))];
        Assert.InRange(lines.Length, 80, int.MaxValue);
        (string[] theirs, string[] ours) = await WithBothAsync(async monitor =>
        {
            List<string> answers = [];
            foreach (string line in lines)
            {
                answers.Add(Comparable(line, await monitor.AskLineAsync(line)));
            }

            return [.. answers];
        });
        string wrong = await ListedDifferences.CheckAsync(lines, theirs, ours);
        Assert.True(wrong.Length == 0, wrong);
    }

    // Without moments, speeds, sizes on this file system, invented names, and empty lines. In which order nodes are listed is nobody's promise.
    private static string Comparable(string line, string text)
    {
        text = Ignored().Replace(text.Replace("\r", "", StringComparison.Ordinal), "");
        text = InventedName().Replace(text, "#node");
        text = Speed().Replace(text, "ops; -");
        text = Moment().Replace(text, "-");
        text = DiskSize().Replace(text, "disk size: -");
        if (line == "info blockstats")
        {
            text = Count().Replace(text, "=-");
        }

        IEnumerable<string> paragraphs = text.Split("\n\n").Select(paragraph => paragraph.Trim('\n')).Where(paragraph => paragraph.Length > 0);
        return string.Join("\n", line.StartsWith("info block -n", StringComparison.Ordinal) ? paragraphs.Order(StringComparer.Ordinal) : paragraphs);
    }

    // A drive of QEMU's without a guest's device is one whose medium could be taken out; and it tells of images that it makes.
    [GeneratedRegex(@"^(    Removable device: .*|Formatting '.*)\n", RegexOptions.Multiline)]
    private static partial Regex Ignored();

    [GeneratedRegex(@"#block\d+|node0-\d+")]
    private static partial Regex InventedName();

    [GeneratedRegex(@"ops; .*")]
    private static partial Regex Speed();

    [GeneratedRegex(@"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|\d\d:\d\d:\d\d\.\d{3}")]
    private static partial Regex Moment();

    [GeneratedRegex("disk size: .*")]
    private static partial Regex DiskSize();

    [GeneratedRegex(@"=\d+")]
    private static partial Regex Count();
}
