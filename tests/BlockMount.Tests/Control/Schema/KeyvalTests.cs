using BlockMount.Control.Json;
using BlockMount.Control.Schema;
using Xunit;

namespace BlockMount.Tests.Control.Schema;

/// <summary>Options as key=value; the texts were seen at qemu-storage-daemon 7.2.</summary>
public sealed class KeyvalTests
{
    private static readonly SchemaType s_node = CommandSchema.Own.Commands["blockdev-add"].Arguments;

    [Theory]
    [InlineData("a=1,b=2", """{"a": "1", "b": "2"}""")]
    [InlineData("raw,b=2", """{"driver": "raw", "b": "2"}""")]
    [InlineData("a,,b,c=d,,e,,", """{"driver": "a,b", "c": "d,e,"}""")]
    [InlineData("a=1,", """{"a": "1"}""")]
    [InlineData("a=", """{"a": ""}""")]
    [InlineData("", "{}")]
    [InlineData("a=b=c", """{"a": "b=c"}""")]
    [InlineData("a.b.c=1,a.b.d=2,a.e=3", """{"a": {"b": {"c": "1", "d": "2"}, "e": "3"}}""")]
    [InlineData("a.1=x,a.0=y", """{"a": ["y", "x"]}""")]
    [InlineData("a.0.h=x,a.1.h=y", """{"a": [{"h": "x"}, {"h": "y"}]}""")]
    [InlineData("a=1,a=2", """{"a": "2"}""")]
    public void ParsesKeys(string text, string tree) => Assert.Equal(tree, Keyval.Parse(text, "driver").ToString());

    [Theory]
    [InlineData("x=1,y", "Expected '=' after parameter 'y'")]
    [InlineData("=raw", "Invalid parameter ''")]
    [InlineData(",raw", "Invalid parameter ''")]
    [InlineData(".x=5", "Invalid parameter '.x'")]
    [InlineData("f..x=5", "Invalid parameter 'f..x'")]
    [InlineData("5x=5", "Invalid parameter '5x'")]
    [InlineData("0.a=5", "Invalid parameter '0.a'")]
    [InlineData("aé=5", "Invalid parameter 'aé'")]
    [InlineData("file=x,file.driver=y", "Parameters 'file.*' used inconsistently")]
    [InlineData("file.driver=y,file=x", "Parameters 'file.*' used inconsistently")]
    [InlineData("a.0=x,a.b=y", "Parameters 'a.*' used inconsistently")]
    [InlineData("a.0=x,a.2=y", "Parameter 'a.1' missing")]
    [InlineData("a=x,help", "Help is not available for this option")]
    public void SaysWhichKeyIsWrong(string text, string message) =>
        Assert.Equal(message, Assert.Throws<CommandException>(() => Keyval.Parse(text, "driver")).Message);

    [Theory]
    [InlineData("null-co,node-name=n,size=0x10,latency-ns=010,read-zeroes=on", """{"driver": "null-co", "node-name": "n", "read-only": null, "size": 16, "latency-ns": 8, "read-zeroes": true}""")]
    [InlineData("null-co,size= -5,latency-ns=-1", """{"driver": "null-co", "size": -5, "latency-ns": 18446744073709551615}""")]
    [InlineData("qcow2,file.driver=file,file.filename=a,,b,cache.direct=off", """{"driver": "qcow2", "cache": {"direct": false}, "file": {"driver": "file", "filename": "a,b"}}""")]
    [InlineData("qcow2,file=n,overlap-check=all,backing=", """{"driver": "qcow2", "file": "n", "backing": "", "overlap-check": "all"}""")]
    [InlineData("blkdebug,image=n,take-child-perms.0=write,inject-error.0.event=none,inject-error.0.errno=28", """{"driver": "blkdebug", "image": "n", "inject-error": [{"event": "none", "errno": 28}], "take-child-perms": ["write"]}""")]
    [InlineData("""{"driver":"null-co","size":5}""", """{"driver":"null-co","size":5}""")]
    public void StringsBecomeWhatTheTypeWants(string text, string arguments)
    {
        JsonObject expected = (JsonObject)JsonReader.Parse(arguments.Replace("\"read-only\": null, ", "", StringComparison.Ordinal));
        Assert.Equal(expected.ToString(), Keyval.ParseAs(s_node, text, "driver").ToString());
    }

    [Theory]
    [InlineData("", "Parameter 'driver' is missing")]
    [InlineData("null-co,size=1G", "Parameter 'size' expects integer")]
    [InlineData("null-co,size=", "Parameter 'size' expects integer")]
    [InlineData("null-co,size=18446744073709551615", "Parameter 'size' expects integer")]
    [InlineData("null-co,latency-ns=1k", "Parameter 'latency-ns' expects integer")]
    [InlineData("null-co,read-zeroes=ON", "Parameter 'read-zeroes' expects 'on' or 'off'")]
    [InlineData("null-co,size.x=5", "Parameters 'size.*' are unexpected")]
    [InlineData("null-co,cache=on", "Invalid parameter type for 'cache', expected: object")]
    [InlineData("raw,file.driver=null-co,file.size=x", "Parameter 'file.size' expects integer")]
    [InlineData("raw,file.driver=null-co,file.bogus=x", "Parameter 'file.bogus' is unexpected")]
    [InlineData("raw,file.0=x", "Invalid parameter type for 'file', expected: BlockdevRef")]
    [InlineData("blkdebug,image=n,take-child-perms=write", "Invalid parameter type for 'take-child-perms', expected: array")]
    [InlineData("blkdebug,image=n,take-child-perms.0=x", "Parameter 'null' does not accept value 'x'")]
    [InlineData("blkdebug,image=n,inject-error.0.event=none,inject-error.0.bad=1", "Parameter 'inject-error.0.bad' is unexpected")]
    [InlineData("""{"driver":"null-co","size":"5"}""", "Invalid parameter type for 'size', expected: integer")]
    [InlineData("""{"driver":"null-co" """, "JSON parse error, premature EOI")]
    [InlineData("""{"driver":"null-co"}x""", "Expecting at most one JSON value")]
    public void SaysWhatDoesNotFit(string text, string message) =>
        Assert.Equal(message, Assert.Throws<CommandException>(() => Keyval.ParseAs(s_node, text, "driver")).Message);

    [Theory]
    [InlineData("addr.type=inet,addr.host=h,addr.port=1,addr.to=70000", "Parameter 'to' expects uint16_t")]
    [InlineData("addr.type=unix,addr.path=p,max-connections=99999999999", "Parameter 'max-connections' expects uint32_t")]
    [InlineData("addr.type=unix,addr.path=p,max-connections=-1", "Parameter 'max-connections' expects uint32_t")]
    [InlineData("addr.type=unix,addr.path=p,max-connections=99999999999999999999999999999999", "Parameter 'max-connections' expects integer")]
    public void NarrowNumbersHaveTheirLimits(string text, string message) =>
        Assert.Equal(message, Assert.Throws<CommandException>(() => Keyval.ParseAs(CommandSchema.Own.Types["NbdServerOptions"], text, null)).Message);
}
