using BlockMount.Control.Hmp;
using Xunit;

namespace BlockMount.Tests.Control.Hmp;

/// <summary>How an HMP line is read into the parameters of its command.</summary>
public sealed class HmpSyntaxTests
{
    private static readonly HmpParameter[] s_stream =
    [
        new("device", HmpParameterKind.Device),
        new("speed", HmpParameterKind.Size, Optional: true),
        new("base", HmpParameterKind.Text, Optional: true),
    ];

    private static readonly HmpParameter[] s_snapshot =
    [
        HmpParameter.Flag("n"),
        new("device", HmpParameterKind.Device),
        new("file", HmpParameterKind.FileName),
    ];

    [Theory]
    [InlineData("drive0", null, null)]
    [InlineData("  drive0   10  ", 10L << 20, null)]
    [InlineData("drive0 10 # 10 MB/s", 10L << 20, null)]
    [InlineData("drive0 1.5G base.qcow2", 3L << 29, "base.qcow2")]
    [InlineData("drive0 512b \"a name with \\\"quotes\\\"\"", 512L, "a name with \"quotes\"")]
    public void ReadsWordsAndSizes(string line, long? speed, string? lower)
    {
        HmpArguments arguments = Parse(s_stream, line);
        Assert.Equal("drive0", arguments.Text("device"));
        Assert.Equal(speed, arguments.Number("speed"));
        Assert.Equal(lower, arguments.Text("base"));
    }

    [Theory]
    [InlineData("", "cmd: block device name expected", true)]
    [InlineData("drive0 A", "invalid size", true)]
    [InlineData("drive0 1Z", "invalid size", true)]
    [InlineData("drive0 9E9", "invalid size", true)]
    [InlineData("drive0 99999999999E", "invalid size", true)]
    [InlineData("drive0 1 b c", "cmd: extraneous characters at the end of line", true)]
    [InlineData("\"drive0", "unterminated string", false)]
    [InlineData("\"\\x\"", "unsupported escape code: '\\x'", false)]
    public void SaysWhatDoesNotFit(string line, string message, bool suggestsHelp)
    {
        HmpSyntaxException error = Assert.Throws<HmpSyntaxException>(() => Parse(s_stream, line));
        Assert.Equal(message, error.Message);
        Assert.Equal(suggestsHelp, error.SuggestsHelp);
    }

    [Fact]
    public void ReadsFlagsBeforeTheRest()
    {
        Assert.True(Parse(s_snapshot, "-n drive0 f").Has("n"));
        Assert.False(Parse(s_snapshot, "drive0 f").Has("n"));
        Assert.Equal("-n", Parse(s_snapshot, "drive0 -n").Text("file"));
        Assert.Equal("#block123", Parse(s_snapshot, "#block123 f").Text("device"));
        HmpSyntaxException error = Assert.Throws<HmpSyntaxException>(() => Parse(s_snapshot, "-x drive0 f"));
        Assert.Equal("cmd: unsupported option -x", error.Message);
    }

    [Theory]
    [InlineData("0", 0)]
    [InlineData("017", 15)]
    [InlineData("0x1F", 31)]
    [InlineData("-5", -5)]
    public void ReadsIntegers(string text, long value) =>
        Assert.Equal(value, Parse([new HmpParameter("x", HmpParameterKind.Integer)], text).Number("x"));

    [Theory]
    [InlineData("0x")]
    [InlineData("018")]
    [InlineData("1 2")]
    [InlineData("9223372036854775808")]
    [InlineData("--1")]
    public void RefusesWhatIsNoInteger(string text) =>
        Assert.Throws<HmpSyntaxException>(() => Parse([new HmpParameter("x", HmpParameterKind.Integer)], text));

    [Fact]
    public void TheRestOfTheLineIsOneParameter() =>
        Assert.Equal("read -P 1 0 4k", Parse([new HmpParameter("command", HmpParameterKind.Rest)], "  read -P 1 0 4k ").Text("command"));

    private static HmpArguments Parse(HmpParameter[] parameters, string line) => HmpSyntax.Parse("cmd", parameters, new HmpLexer(line));
}
