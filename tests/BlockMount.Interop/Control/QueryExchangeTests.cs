using System.Text.RegularExpressions;
using BlockMount.Control.Json;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Control;

/// <summary>What queries about devices, nodes and the graph answer, member by member, against qemu-system-x86_64.</summary>
public sealed partial class QueryExchangeTests : QemuSystemFixture
{
    // A drive without a guest's device is removable, and has no status of its I/O; so many bytes a file takes on its file system.
    private static readonly string[] s_ignored = ["removable", "io-status", "actual-size"];

    private static readonly string[] s_queries =
    [
        "{'execute':'query-block'}",
        "{'execute':'query-blockstats'}",
        "{'execute':'query-blockstats','arguments':{'query-nodes':true}}",
        "{'execute':'query-named-block-nodes'}",
        "{'execute':'query-named-block-nodes','arguments':{'flat':true}}",
        "{'execute':'x-debug-query-block-graph'}",
    ];

    [RequiresReleaseFact("qemu-img", "qemu-system-x86_64", "stdbuf")]
    public async Task TheAnswersHaveTheSameMembers()
    {
        (string[] theirs, string[] ours) = await WithBothAsync(AskAllAsync);
        for (int i = 0; i < theirs.Length; i++)
        {
            Assert.Equal(theirs[i], ours[i]);
        }
    }

    private static async Task<string[]> AskAllAsync(SystemMonitor monitor)
    {
        List<string> answers = [];
        foreach (string query in s_queries.Concat(s_queries))
        {
            if (answers.Count == s_queries.Length)
            {
                // The second time with more in it.
                Assert.Equal("", await monitor.AskLineAsync("qemu-io drive0 \"write -q 1M 64k\""));
                Assert.Equal("", await monitor.AskLineAsync("snapshot_blkdev_internal drive0 snap0"));
            }

            JsonObject answer = await monitor.AskAsync((JsonObject)JsonReader.Parse(query));
            bool counters = answers.Count >= s_queries.Length && query.Contains("blockstats", StringComparison.Ordinal);
            // Before anything is put into an order.
            string text = InventedName().Replace(monitor.Anonymous(answer["return"].ToString()), "#node");
            answers.Add(Comparable(JsonReader.Parse(text), counters));
        }

        return [.. answers];
    }

    /// <summary>Members in the order of their names, and lists in the order of their texts: what order they come in is nobody's promise.</summary>
    /// <param name="counters">Leave numbers out: QEMU's disk tool is not counted, and images grow in their own ways.</param>
    private static string Comparable(JsonValue value, bool counters) => value switch
    {
        JsonObject members => "{" + string.Join(", ", members.Members.Where(member => !s_ignored.Contains(member.Key) && !IsOfRoot(members, member.Key))
            .OrderBy(member => member.Key, StringComparer.Ordinal).Select(member => $"{member.Key}: {(IsLengthOfFile(members, member.Key) ? "-" : OfMember(member.Key, member.Value, counters))}")) + "}",
        JsonList items => "[" + string.Join(", ", items.Select(item => Comparable(item, counters)).Order(StringComparer.Ordinal)) + "]",
        JsonInteger when counters => "-",
        _ => value.ToString(),
    };

    // How a file grows is each program's own affair.
    private static bool IsLengthOfFile(JsonObject image, string member) => member == "virtual-size" && image.Text("format") == "file";

    // Sizes of disks that are no multiple of a sector are rounded up by QEMU.
    private static string OfMember(string name, JsonValue value, bool counters) => name switch
    {
        "virtual-size" => ((((JsonInteger)value).Value + 511) / 512 * 512).ToString(System.Globalization.CultureInfo.InvariantCulture),
        "date-sec" or "date-nsec" or "vm-clock-sec" or "vm-clock-nsec" or "icount" => "-",
        _ => Comparable(value, counters),
    };

    // A drive without a guest's device asks for next to nothing; ours is served.
    private static bool IsOfRoot(JsonObject edge, string member) => member is "perm" or "shared-perm" && edge.Text("name") == "root";

    [GeneratedRegex(@"#block\d+|node0-\d+")]
    private static partial Regex InventedName();
}
