using BlockMount.Control.Json;
using BlockMount.Control.Schema;
using Xunit;

namespace BlockMount.Tests.Control.Schema;

/// <summary>The description of commands, and what is made of it.</summary>
public sealed class SchemaTests
{
    private static readonly CommandSchema s_schema = SchemaText.Read("""
        enum Driver: file qcow2
        alternate Reference: Options str
        union Options on driver
          driver: Driver
          *read-only: bool
          when file: File
          when qcow2: Qcow2
        struct File
          filename: str
        struct Qcow2
          file: Reference
          *sizes: [uint32]
          *more: [Reference]
        command test
          | Does nothing.
          args Options
        """);

    private static readonly string[] s_referring = ["arg-type", "ret-type", "element-type"];
    private static readonly string[] s_listing = ["members", "variants"];

    [Theory]
    [InlineData("""{}""", "Parameter 'driver' is missing")]
    [InlineData("""{"driver":5}""", "Invalid parameter type for 'driver', expected: string")]
    [InlineData("""{"driver":"nope"}""", "Parameter 'driver' does not accept value 'nope'")]
    [InlineData("""{"driver":"qcow2"}""", "Parameter 'file' is missing")]
    [InlineData("""{"driver":"qcow2","file":5}""", "Invalid parameter type for 'file', expected: Reference")]
    [InlineData("""{"driver":"qcow2","file":{}}""", "Parameter 'file.driver' is missing")]
    [InlineData("""{"driver":"qcow2","file":{"driver":"nope"}}""", "Parameter 'driver' does not accept value 'nope'")]
    [InlineData("""{"driver":"qcow2","file":{"driver":"file","filename":"x","z":1}}""", "Parameter 'file.z' is unexpected")]
    [InlineData("""{"driver":"qcow2","file":"node","sizes":5}""", "Invalid parameter type for 'sizes', expected: array")]
    [InlineData("""{"driver":"qcow2","file":"node","sizes":[1,"x"]}""", "Parameter 'sizes[1]' expects uint64")]
    [InlineData("""{"driver":"qcow2","file":"node","sizes":[-1]}""", "Parameter 'null' expects uint32_t")]
    [InlineData("""{"driver":"qcow2","file":"node","more":[5]}""", "Invalid parameter type for 'null', expected: Reference")]
    [InlineData("""{"driver":"qcow2","file":{"driver":"qcow2","file":5}}""", "Invalid parameter type for 'file', expected: Reference")]
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
        JsonList schema = SchemaInfo.Of(CommandSchema.Own.Commands.Values, CommandSchema.Own.Events.Values);
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

    [Theory]
    [InlineData("struct A\n  x: Nope", "struct A: there is no type 'Nope'")]
    [InlineData("struct A\nstruct A", "struct A: described twice")]
    [InlineData("thing A", "thing A: unknown keyword")]
    [InlineData("struct A\n  nonsense", "struct A: 'nonsense' is no member")]
    public void ADescriptionThatIsWrongSaysWhere(string text, string message) =>
        Assert.Equal(message, Assert.Throws<FormatException>(() => SchemaText.Read(text)).Message);

    [Fact]
    public void EveryCommandAndEventIsExplained()
    {
        Assert.All(CommandSchema.Own.Commands.Values, command => Assert.NotEmpty(command.Help));
        Assert.All(CommandSchema.Own.Events.Values, item => Assert.NotEmpty(item.Help));
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

    private static void Check(string arguments) => ArgumentCheck.Check(s_schema.Commands["test"].Arguments, (JsonObject)JsonReader.Parse(arguments));
}
