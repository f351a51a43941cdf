using BlockMount.Exports.Fuse.Ring;
using Xunit;

namespace BlockMount.Tests.Exports.Fuse;

/// <summary>Lists of processors as sysfs writes them.</summary>
public sealed class ProcessorListTests
{
    [Theory]
    [InlineData("0\n", new[] { 0 })]
    [InlineData("0-3\n", new[] { 0, 1, 2, 3 })]
    [InlineData("0-1,4,6-7", new[] { 0, 1, 4, 6, 7 })]
    public void Parse_ReadsSingleNumbersAndRanges(string text, int[] expected) => Assert.Equal(expected, ProcessorList.Parse(text));

    [Theory]
    [InlineData("")]
    [InlineData("\n")]
    [InlineData("3-1")]
    [InlineData("0-1-2")]
    [InlineData("a")]
    [InlineData("-1")]
    [InlineData("0-4000000")]
    public void Parse_AnythingElse_IsAnError(string text) => Assert.Throws<FormatException>(() => ProcessorList.Parse(text));
}
