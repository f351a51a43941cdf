using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using BlockMount.Control.Schema;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Control;

/// <summary>
/// Scripted exchanges with qemu-storage-daemon 7.2 and with our monitor in this process: equal answers, or a line in docs/qmp-differences.md.
/// </summary>
public sealed class ProtocolExchangeTests
{
    private static readonly Lazy<HashSet<string>> s_listed = new(() =>
        [.. File.ReadLines(Path.Combine(SourceTree.Root, "docs/qmp-differences.md")).Where(line => line.StartsWith("| ", StringComparison.Ordinal))
            .Select(line => line.Split(" | ")[0][2..].Trim('`'))]);

    [RequiresTheory(Needs.None, "qemu-storage-daemon")]
    [InlineData("negotiation.jsonl", 10)]
    [InlineData("envelope.jsonl", 30)]
    [InlineData("stream.jsonl", 30)]
    [InlineData("arguments.jsonl", 25)]
    public async Task TheAnswersAreThoseOfQemuOrListed(string topic, int atLeast)
    {
        IReadOnlyList<Exchange> exchanges = Exchange.Read(topic);
        Assert.InRange(exchanges.Count, atLeast, int.MaxValue);
        StringBuilder wrong = new();
        foreach (Exchange exchange in exchanges)
        {
            await using QemuMonitor qemu = QemuMonitor.Start();
            await using OwnMonitor own = await OwnMonitor.StartAsync();
            IReadOnlyList<string> theirs = await exchange.HaveAsync(qemu.Peer());
            IReadOnlyList<string> ours = await exchange.HaveAsync(own.Peer());
            Judge(wrong, exchange.Name, string.Join('\n', ours), string.Join('\n', theirs));
        }

        Assert.True(wrong.Length == 0, wrong.ToString());
    }

    [RequiresToolFact("qemu-storage-daemon")]
    public async Task OptionsAreRefusedWithTheTextsOfQemuOrListed()
    {
        StringBuilder wrong = new();
        foreach (JsonElement line in Exchange.Lines("options.keyval.jsonl"))
        {
            string option = line.GetProperty("option").GetString()!;
            string value = line.GetProperty("value").GetString()!;
            ToolResult result = await ToolProcess.RunAsync("qemu-storage-daemon", option, value);
            string theirs = result.Error.Replace($"qemu-storage-daemon: {option} {value}: ", "", StringComparison.Ordinal).Trim();
            Judge(wrong, $"{option} {value}", Refusal(option, value), theirs);
        }

        Assert.True(wrong.Length == 0, wrong.ToString());
    }

    [RequiresToolFact("qemu-storage-daemon")]
    public async Task RandomInputIsAnsweredAsByQemu()
    {
        int streams = 0;
        StringBuilder wrong = new();
        foreach (int seed in TestBudget.Seeds(20261125, 60))
        {
            await using QemuMonitor qemu = QemuMonitor.Start();
            await using OwnMonitor own = await OwnMonitor.StartAsync();
            Exchange exchange = RandomInput.Of(seed);
            string theirs = WithoutChosenName(await exchange.HaveAsync(qemu.Peer()));
            string ours = WithoutChosenName(await exchange.HaveAsync(own.Peer()));
            if (ours != theirs)
            {
                _ = wrong.Append($"seed {seed}\n{FirstDifference(ours, theirs)}\n  of: {exchange.Text}\n");
            }

            streams++;
        }

        _ = TestBudget.Count(streams, "random streams answered as by qemu-storage-daemon", promised: 60);
        Assert.True(wrong.Length == 0, wrong.ToString());
    }

    // Of several members that are too many QEMU names the one that its hash table has first, and we the one that was sent first.
    private static string WithoutChosenName(IReadOnlyList<string> answers) =>
        string.Join('\n', answers.Select(answer => Regex.Replace(answer, "(member|Parameter) '.*' is unexpected", "$1 is unexpected")));

    private static string Refusal(string option, string value)
    {
        (string type, string? implied) = option switch
        {
            "--blockdev" => ("BlockdevOptions", "driver"),
            "--export" => ("BlockExportOptions", "type"),
            "--object" => ("ObjectOptions", "qom-type"),
            _ => ("NbdServerOptions", (string?)null),
        };
        try
        {
            _ = Keyval.ParseAs(CommandSchema.Own.Types[type], value, implied);
            return "taken";
        }
        catch (CommandException error)
        {
            return error.Message;
        }
    }

    private static void Judge(StringBuilder wrong, string name, string ours, string theirs)
    {
        bool isListed = s_listed.Value.Contains(name);
        if (ours != theirs && !isListed)
        {
            _ = wrong.Append($"{name}\n{FirstDifference(ours, theirs)}\n");
        }
        else if (ours == theirs && isListed)
        {
            _ = wrong.Append($"{name}\n  is listed as different, and is equal: {ours}\n");
        }
    }

    private static string FirstDifference(string ours, string theirs)
    {
        string[] left = ours.Split('\n');
        string[] right = theirs.Split('\n');
        int at = Enumerable.Range(0, Math.Max(left.Length, right.Length)).First(i => i >= left.Length || i >= right.Length || left[i] != right[i]);
        return $"  answer {at} of QEMU: {(at < right.Length ? right[at] : "none")}\n  answer {at} of ours: {(at < left.Length ? left[at] : "none")}";
    }
}
