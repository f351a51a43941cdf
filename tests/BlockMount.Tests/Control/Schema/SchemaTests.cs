using BlockMount.Control;
using BlockMount.Control.Json;
using BlockMount.Control.Schema;
using BlockMount.Tests.Control.Qmp;
using Xunit;
using static BlockMount.Control.Schema.Describe;

namespace BlockMount.Tests.Control.Schema;

/// <summary>The description of commands, and what is made of it.</summary>
public sealed class SchemaTests
{
    private static readonly string[] s_referring = ["arg-type", "ret-type", "element-type"];
    private static readonly string[] s_listing = ["members", "variants"];

    private static readonly UnionType s_options = new(
        "Options",
        [Need("driver", Enum("Driver", "file", "qcow2")), May("read-only", BuiltinType.Bool)],
        "driver",
        () => new Dictionary<string, StructType>
        {
            ["file"] = Struct("File", Need("filename", BuiltinType.Str)),
            ["qcow2"] = Struct("Qcow2", Need("file", s_reference!), May("sizes", ListOf(BuiltinType.Uint32))),
        });

    private static readonly AlternateType s_reference = new("BlockdevRef", () => [s_options, BuiltinType.Str]);

    [Theory]
    [InlineData("""{}""", "Parameter 'driver' is missing")]
    [InlineData("""{"driver":5}""", "Invalid parameter type for 'driver', expected: string")]
    [InlineData("""{"driver":"nope"}""", "Parameter 'driver' does not accept value 'nope'")]
    [InlineData("""{"driver":"qcow2"}""", "Parameter 'file' is missing")]
    [InlineData("""{"driver":"qcow2","file":5}""", "Invalid parameter type for 'file', expected: BlockdevRef")]
    [InlineData("""{"driver":"qcow2","file":{}}""", "Parameter 'file.driver' is missing")]
    [InlineData("""{"driver":"qcow2","file":{"driver":"nope"}}""", "Parameter 'driver' does not accept value 'nope'")]
    [InlineData("""{"driver":"qcow2","file":{"driver":"file","filename":"x","z":1}}""", "Parameter 'file.z' is unexpected")]
    [InlineData("""{"driver":"qcow2","file":"node","sizes":5}""", "Invalid parameter type for 'sizes', expected: array")]
    [InlineData("""{"driver":"qcow2","file":"node","sizes":[1,"x"]}""", "Parameter 'sizes[1]' expects uint64")]
    [InlineData("""{"driver":"qcow2","file":"node","sizes":[-1]}""", "Parameter 'sizes[0]' expects uint32_t")]
    [InlineData("""{"driver":"file","filename":"x","read-only":"yes"}""", "Invalid parameter type for 'read-only', expected: boolean")]
    public void SaysWhatDoesNotFit(string arguments, string message) =>
        Assert.Equal(message, Assert.Throws<CommandException>(() => Check(arguments)).Message);

    [Theory]
    [InlineData("""{"driver":"file","filename":"x"}""")]
    [InlineData("""{"driver":"qcow2","file":"node","sizes":[]}""")]
    [InlineData("""{"driver":"qcow2","file":{"driver":"qcow2","file":{"driver":"file","filename":"y","read-only":true}}}""")]
    public void TakesWhatFits(string arguments) => Check(arguments);

    [Fact]
    public void EveryTypeThatIsNamedIsThere()
    {
        ControlMonitor monitor = new(new FakeHost());
        JsonList schema = SchemaInfo.Of(monitor.Commands.Descriptions.Append(Command("test", "", [Need("x", s_options)])), monitor.Commands.Events);
        string[] names = [.. schema.Cast<JsonObject>().Where(entry => entry.Text("meta-type") is not ("command" or "event")).Select(entry => entry.Text("name")!)];
        Assert.Equal(names.Length, names.Distinct().Count());
        Dictionary<string, JsonObject> types = schema.Cast<JsonObject>()
            .Where(entry => entry.Text("meta-type") is not ("command" or "event")).ToDictionary(entry => entry.Text("name")!);
        foreach (JsonObject entry in schema.Cast<JsonObject>())
        {
            foreach (string name in References(entry))
            {
                Assert.True(types.ContainsKey(name), $"'{name}', which {entry.Text("name")} names");
            }

            if (entry.Text("meta-type") == "command")
            {
                Assert.Equal("object", types[entry.Text("arg-type")!].Text("meta-type"));
            }
        }
    }

    private static IEnumerable<string> References(JsonObject entry)
    {
        foreach (string member in s_referring)
        {
            if (entry.Text(member) is { } name)
            {
                yield return name;
            }
        }

        foreach (JsonObject inner in s_listing.SelectMany(list => entry.List(list) ?? new JsonList()).OfType<JsonObject>())
        {
            if (inner.Text("type") is { } name)
            {
                yield return name;
            }
        }
    }

    private static void Check(string arguments) => ArgumentCheck.Check(s_options, (JsonObject)JsonReader.Parse(arguments));
}
