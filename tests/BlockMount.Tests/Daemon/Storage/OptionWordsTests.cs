using BlockMount.Base;
using BlockMount.Daemon.Storage;
using Xunit;

namespace BlockMount.Tests.Daemon.Storage;

/// <summary>The command line of 'blockmount daemon', as getopt_long takes it apart; the texts were seen at qemu-storage-daemon 7.2.</summary>
public sealed class OptionWordsTests
{
    [Theory]
    [InlineData("--blockdev|a|--export=b", "blockdev:a:--blockdev a;export:b:--export=b")]
    [InlineData("--block|a|--mon=|--nbd|c", "blockdev:a:--block a;monitor::--mon=;nbd-server:c:--nbd c")]
    [InlineData("--daemonize|x", "daemonize::--daemonize;:x:x")]
    [InlineData("--object|--bogus", "object:--bogus:--object --bogus")]
    [InlineData("-hV", "help::-hV;version::-hV")]
    [InlineData("-Tx|-T|y", "trace:x:-Tx;trace:y:-T y")]
    [InlineData("-hT|y|z", "help::-hT;trace:y:-hT y;:z:z")]
    [InlineData("--pidfile|p|--|--bogus", "pidfile:p:--pidfile p")]
    [InlineData("-", ":-:-")]
    public void OptionsComeInTheirOrder(string words, string expected) => Assert.Equal(
        expected, string.Join(';', OptionWords.Read(words.Split('|')).Select(option => $"{option.Name}:{option.Value}:{option.Written}")));

    [Theory]
    [InlineData("--bogus", "unrecognized option '--bogus'")]
    [InlineData("--bogus=1", "unrecognized option '--bogus'")]
    [InlineData("--blockdev", "option '--blockdev' requires an argument")]
    [InlineData("--block", "option '--blockdev' requires an argument")]
    [InlineData("--daemonize=1", "option '--daemonize' doesn't allow an argument")]
    [InlineData("-x", "invalid option -- 'x'")]
    [InlineData("-T", "option requires an argument -- 'T'")]
    public void SaysWhatDoesNotFit(string words, string message) =>
        Assert.Equal(message, Assert.Throws<BlockMountException>(() => OptionWords.Read(words.Split('|')).ToList()).Message);

    [Theory]
    [InlineData("--daemonize", true)]
    [InlineData("--blockdev|a|--daem", true)]
    [InlineData("--blockdev|--daemonize", false)]
    [InlineData("--daemonize|--help", false)]
    [InlineData("--daemonize|--bogus", false)]
    [InlineData("--|--daemonize", false)]
    public void TheBackgroundIsWantedByItsOptionAlone(string words, bool wanted) => Assert.Equal(wanted, StorageRequest.WantsBackground(words.Split('|')));

    [Theory]
    [InlineData("socket,id=c,path=a,,b,server,nowait", "c socket a,b True False")]
    [InlineData("backend=socket,path=p,id=c,server=on,server=off", "c socket p False ")]
    [InlineData("id=c,backend=stdio", "c stdio   ")]
    public void ChannelsAreRead(string text, string expected)
    {
        ChannelOptions options = ChannelOptions.Parse(text);
        Assert.Equal(expected, $"{options.Id} {options.Backend} {options.Text("path")} {options.Flag("server")} {options.Flag("wait")}");
    }

    [Theory]
    [InlineData("socket,id=c,bogus=1", "Invalid parameter 'bogus'")]
    [InlineData("socket", "chardev: no id specified")]
    public void ChannelsThatDoNotFitAreRefused(string text, string message) =>
        Assert.Equal(message, Assert.Throws<BlockMountException>(() => ChannelOptions.Parse(text)).Message);
}
