using BlockMount.Control.Json;
using BlockMount.Control.Schema;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Control;

/// <summary>Our description of commands and events against the one of qemu-storage-daemon 7.2.</summary>
public sealed class SchemaOracleTests
{
    [RequiresToolFact("qemu-storage-daemon")]
    public async Task TheDescriptionIsThatOfQemuOrListed()
    {
        JsonList theirs = (JsonList)await QemuMonitor.AskOnceAsync("query-qmp-schema");
        JsonList ours = SchemaInfo.Of(CommandSchema.Own.Commands.Values, CommandSchema.Own.Events.Values);
        HashSet<string> listed = [.. (await File.ReadAllLinesAsync(Path.Combine(SourceTree.Root, "tests/BlockMount.Interop/Control/schema-differences.txt")))
            .Where(line => line.Length > 0 && line[0] != '#')];
        IReadOnlyList<string> found = SchemaComparison.Compare(ours, theirs);
        string wrong = string.Join('\n', found.Where(line => !listed.Contains(line)).Select(line => "not listed: " + line)
            .Concat(listed.Where(line => !found.Contains(line)).Select(line => "listed and not found: " + line)));
        Assert.True(wrong.Length == 0, wrong);
    }
}
