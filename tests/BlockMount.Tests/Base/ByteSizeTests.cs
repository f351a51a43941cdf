using BlockMount.Base;
using Xunit;

namespace BlockMount.Tests.Base;

/// <summary>Sizes as qemu-img reads and prints them; the expected texts are what `qemu-img info` and `create` show.</summary>
public sealed class ByteSizeTests
{
    [Theory]
    [InlineData("0", 0)]
    [InlineData("65536", 65536)]
    [InlineData("512b", 512)]
    [InlineData("64k", 65536)]
    [InlineData("64K", 65536)]
    [InlineData("1.5G", 1610612736)]
    [InlineData("0.5k", 512)]
    [InlineData("10T", 10995116277760)]
    [InlineData("2P", 2251799813685248)]
    [InlineData("7E", 8070450532247928832)]
    [InlineData("7.5E", 8646911284551352320)]
    [InlineData("9223372036854775807", long.MaxValue)]
    public void Parse_SizeWithSuffix_IsInPowersOf1024(string text, long expected)
    {
        Assert.True(ByteSize.TryParse(text, out long bytes));
        Assert.Equal(expected, bytes);
    }

    [Theory]
    [InlineData("")]
    [InlineData("k")]
    [InlineData("-1")]
    [InlineData("-1k")]
    [InlineData("1.5")]
    [InlineData("1.5b")]
    [InlineData("8E")]
    [InlineData("8.0E")]
    [InlineData("16E")]
    [InlineData("79228162514264337593543950335.5G")]
    [InlineData("9223372036854775808")]
    [InlineData("1kk")]
    [InlineData("1 k")]
    [InlineData("1x")]
    [InlineData("1,5k")]
    [InlineData("1e3")]
    [InlineData("nan")]
    public void Parse_NoSize_IsRefused(string text) => Assert.False(ByteSize.TryParse(text, out _));

    [Theory]
    [InlineData(0, "0 B")]
    [InlineData(1, "1 B")]
    [InlineData(999, "999 B")]
    [InlineData(1000, "0.977 KiB")]
    [InlineData(1024, "1 KiB")]
    [InlineData(65536, "64 KiB")]
    [InlineData(200704, "196 KiB")]
    [InlineData(1024000, "0.977 MiB")]
    [InlineData(1048576, "1 MiB")]
    [InlineData(1342177280, "1.25 GiB")]
    [InlineData(10995116277760, "10 TiB")]
    [InlineData(long.MaxValue, "8 EiB")]
    public void Format_Bytes_HasThreeSignificantDigits(long bytes, string expected) => Assert.Equal(expected, ByteSize.Format(bytes));
}
