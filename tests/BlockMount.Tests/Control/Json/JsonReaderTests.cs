using System.Text;
using BlockMount.Control.Json;
using Xunit;

namespace BlockMount.Tests.Control.Json;

/// <summary>Reading JSON as QEMU's monitor does; the texts were seen at qemu-storage-daemon 7.2.</summary>
public sealed class JsonReaderTests
{
    [Theory]
    [InlineData("""{"a":drive0}""", "invalid keyword 'drive'")]
    [InlineData("""{"a":1,}""", "expecting value")]
    [InlineData("""{"a":}""", "expecting value")]
    [InlineData("""{"a" 1}""", "missing : in object pair")]
    [InlineData("{1:2}", "key is not a string in object")]
    [InlineData("[1,]", "expecting value")]
    [InlineData("[1 2]", "expected separator in list")]
    [InlineData("""{"a":1 "b":2}""", "expected separator in dict")]
    [InlineData("""{"a":1,"a":2}""", "duplicate key")]
    [InlineData("}", "expecting value")]
    [InlineData("""{"a":tru}""", "invalid keyword 'tru'")]
    [InlineData("""{"a":"\x"}""", "invalid escape sequence in string")]
    [InlineData("""{"a":"\u12"}""", "\\u12\" is not a valid Unicode character")]
    [InlineData("""{"a":"\ud800"}""", "\\ud800 is not a valid Unicode character")]
    [InlineData("""{"a":"\ud800\u0041"}""", "\\ud800 is not a valid Unicode character")]
    [InlineData("""{"a":01}""", "stray '01'", "expecting value")]
    [InlineData("""{"a":-}""", "stray '-}'")]
    [InlineData("""{"a":1.}""", "stray '1.}'")]
    [InlineData("{\"a\":\"\u0001\"}", "stray '\"\u0001'", "expecting value")]
    [InlineData("%d", "stray '%'")]
    [InlineData("@\t5", "stray '@'")]
    [InlineData("[0e5]", "expected separator in list")]
    [InlineData("[\"\\uFFFF\"]", "\\uFFFF is not a valid Unicode character")]
    [InlineData("[\"\\ud83f\\udffe\"]", "\\ud83f\\udffe is not a valid Unicode character")]
    [InlineData("[\"\ufdd0\"]", "invalid UTF-8 sequence in string")]
    [InlineData("\0", "stray ''")]
    [InlineData("nul\u00e4", "invalid keyword 'nul'", "stray '\ufffd'")]
    public void SaysWhatIsWrong(string text, params string[] messages)
    {
        (List<string> values, List<string> errors) = Read(Encoding.UTF8.GetBytes(text + "\n"));
        Assert.Empty(values);
        Assert.Equal(messages.Select(message => "JSON parse error, " + message), errors);
    }

    [Theory]
    [InlineData("""{"a": 18446744073709551615}""", """{"a": 18446744073709551615}""")]
    [InlineData("""{"a":-9223372036854775809}""", """{"a": -9.2233720368547758e+18}""")]
    [InlineData("""[1.50,1e400,1E2,-0,0.1,100000000000000000000]""", "[1.5, inf, 100, 0, 0.10000000000000001, 1e+20]")]
    [InlineData("""{'it\'s':"\u00e9\/\ud83d\ude00"}""", """{"it's": "\u00E9/\uD83D\uDE00"}""")]
    [InlineData("""[null,true,false,{},[]]""", "[null, true, false, {}, []]")]
    [InlineData("[\"\\b\\f\\n\\r\\t\u007f\\\"\\\\\"]", """["\b\f\n\r\t\u007F\"\\"]""")]
    public void ReadsAndWrites(string text, string written)
    {
        (List<string> values, List<string> errors) = Read(Encoding.UTF8.GetBytes(text));
        Assert.Empty(errors);
        Assert.Equal([written], values);
    }

    [Fact]
    public void GoesOnBehindBadInput()
    {
        (List<string> values, List<string> errors) = Read("ABC {\"x\":1}\n@[2]"u8.ToArray());
        Assert.Equal(["JSON parse error, stray 'A'", "JSON parse error, stray '@'"], errors);
        Assert.Equal(["{\"x\": 1}", "[2]"], values);
    }

    [Fact]
    public void BadBytesAreNamedByReplacementCharacters()
    {
        (_, List<string> errors) = Read([.. "{\"a\":\""u8, 0xff, 0xfe, .. "\"}"u8]);
        Assert.Equal(["JSON parse error, stray '\"\ufffd'", "JSON parse error, stray '\ufffd'", "JSON parse error, expecting value"], errors);
        (_, errors) = Read([.. "{\"a\":\""u8, 0xed, 0xa0, 0x80, .. "\"}"u8]);
        Assert.Equal(["JSON parse error, invalid UTF-8 sequence in string"], errors);
    }

    [Fact]
    public void NestingHasALimit()
    {
        string deep = new string('[', JsonReader.NestingMax) + new string(']', JsonReader.NestingMax);
        Assert.Single(Read(Encoding.ASCII.GetBytes(deep)).Values);
        (List<string> values, List<string> errors) = Read(Encoding.ASCII.GetBytes("[" + deep + "]"));
        Assert.Empty(values);
        Assert.Equal("JSON nesting depth limit exceeded", errors[0]);
    }

    [Fact]
    public void TheSplitOfTheStreamDoesNotMatter()
    {
        byte[] text = Encoding.UTF8.GetBytes("""{"execute": "x", "arguments": {"ä": [1.5e3, -7, tru, "\u00e9"]}} {"b": '\'', "c": 12} @ [1, {}]""");
        string whole = string.Join('|', Read(text).Values.Concat(Read(text).Errors));
        Random random = new(1);
        for (int round = 0; round < 200; round++)
        {
            List<string> values = [];
            List<string> errors = [];
            JsonReader reader = Reader(values, errors);
            for (int at = 0; at < text.Length;)
            {
                int step = Math.Min(random.Next(1, 6), text.Length - at);
                reader.Feed(text.AsSpan(at, step));
                at += step;
            }

            Assert.Equal(whole, string.Join('|', values.Concat(errors)));
        }
    }

    [Fact]
    public void WhateverComesOnlyDeclaredErrorsLeave()
    {
        Random random = new(20261125);
        string[] pieces = ["{", "}", "[", "]", ":", ",", "\"", "'", "\\", "\\u00", "d8", "true", "nul", "-", "1", "1.5", "e", "\"a\"", " ", "\n", "\xff", "\x01", "ä", "{\"execute\":\"x\"}"];
        int values = 0;
        JsonReader reader = new((value, error) =>
        {
            Assert.True(value is null != error is null);
            Assert.True(error is null || error.StartsWith("JSON ", StringComparison.Ordinal));
            values += value is null ? 0 : 1;
        });
        for (int i = 0; i < 200_000; i++)
        {
            reader.Feed(Encoding.Latin1.GetBytes(pieces[random.Next(pieces.Length)]));
        }

        Assert.True(values > 100, $"{values} values");
    }

    [Theory]
    [InlineData("12", "12")]
    [InlineData("{\"a\":[1]}", "{\"a\": [1]}")]
    [InlineData(" null ", "null")]
    public void ParsesOneValue(string text, string written) => Assert.Equal(written, JsonReader.Parse(text).ToString());

    [Theory]
    [InlineData("")]
    [InlineData("1 2")]
    [InlineData("{")]
    [InlineData("\"")]
    [InlineData("[1]]")]
    public void RefusesWhatIsNotOneValue(string text) => Assert.Throws<FormatException>(() => JsonReader.Parse(text));

    [Fact]
    public void PrettyOutputIsIndented() =>
        Assert.Equal("{\n    \"a\": [\n        1\n    ],\n    \"b\": {}\n}", JsonWriter.Write(JsonReader.Parse("{\"a\":[1],\"b\":{}}"), pretty: true));

    private static (List<string> Values, List<string> Errors) Read(byte[] text)
    {
        List<string> values = [];
        List<string> errors = [];
        Reader(values, errors).Feed(text);
        return (values, errors);
    }

    private static JsonReader Reader(List<string> values, List<string> errors) => new((value, error) =>
    {
        if (value is null)
        {
            errors.Add(error!);
        }
        else
        {
            values.Add(value.ToString());
        }
    });
}
