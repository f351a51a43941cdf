using System.CommandLine;
using System.Text;
using BlockMount.Daemon.Cli;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;
using BlockMount.Tests.Formats;
using Xunit;

namespace BlockMount.Tests.Daemon;

/// <summary>RELIABILITY S7: looking at an image opens that image and nothing else, whatever it refers to.</summary>
public sealed class InfoCommandTests
{
    [Theory]
    [InlineData("json:{\"driver\":\"nbd\"}", 0UL)]
    [InlineData("/etc/passwd", 0UL)]
    [InlineData("base.qcow2", 0UL)]
    [InlineData(null, FeatureBits.ExternalDataFile)]
    public async Task Info_ImageWithReferences_OpensOneFile(string? backing, ulong incompatible)
    {
        var image = HeaderSamples.Header with
        {
            IncompatibleFeatures = incompatible,
            Backing = backing is null ? null : new BackingReference(backing, "raw"),
            Extensions = [new HeaderExtension(HeaderExtensionType.DataFileName, Encoding.ASCII.GetBytes("json:{\"driver\":\"nbd\"}"))],
        };
        OneFile files = new(new SparseFile("hostile.qcow2", HeaderSamples.FileLength, HeaderSamples.Bytes(image)));
        using StringWriter output = new();

        int exitCode = await InfoCommand.Build(files).Parse(["hostile.qcow2"]).InvokeAsync(
            new InvocationConfiguration { Output = output, EnableDefaultExceptionHandler = false });

        Assert.Equal(0, exitCode);
        Assert.Equal(["hostile.qcow2"], files.Opened);
        Assert.Contains("file format: qcow2", output.ToString(), StringComparison.Ordinal);
    }

    private sealed class OneFile(StorageFile file) : IStorageOpener
    {
        public List<string> Opened { get; } = [];

        public ValueTask<StorageFile> OpenAsync(string path, StorageOpenOptions options)
        {
            Opened.Add(path);
            return new ValueTask<StorageFile>(file);
        }
    }
}
