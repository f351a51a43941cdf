using BlockMount.Control.Client;
using Xunit;

namespace BlockMount.Tests.Control.Client;

/// <summary>The short form of commands.</summary>
public sealed class ShellLineTests
{
    [Theory]
    [InlineData("query-block", """{"execute": "query-block"}""")]
    [InlineData("block_resize device=drive0 size=1048576", """{"execute": "block_resize", "arguments": {"device": "drive0", "size": 1048576}}""")]
    [InlineData("x a.b=true a.c=null d=-5", """{"execute": "x", "arguments": {"a": {"b": true, "c": null}, "d": -5}}""")]
    [InlineData("x l=[1, 'two'] o={\"k\": 1}", """{"execute": "x", "arguments": {"l": [1, "two"], "o": {"k": 1}}}""")]
    [InlineData("x t=\"5\" f=/a=b", """{"execute": "x", "arguments": {"t": "5", "f": "/a=b"}}""")]
    [InlineData(" {\"execute\": \"quit\"}", """{"execute": "quit"}""")]
    public void BecomesAMessage(string line, string message) => Assert.Equal(message, ShellLine.Parse(line).ToString());

    [Theory]
    [InlineData("")]
    [InlineData("x y")]
    [InlineData("x =1")]
    [InlineData("x a=1 a.b=2")]
    [InlineData("x a=[1")]
    [InlineData("{\"execute\"")]
    public void RefusesWhatMeansNothing(string line) => Assert.Throws<FormatException>(() => ShellLine.Parse(line));
}
