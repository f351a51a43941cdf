using BlockMount.Control.Client;
using BlockMount.Control.Schema;
using Xunit;

namespace BlockMount.Tests.Control.Client;

/// <summary>Completion of lines from the description of the commands.</summary>
public sealed class SchemaCompletionTests
{
    private static readonly SchemaCompletion s_completion = new(SchemaInfo.Of(CommandSchema.Own.Commands.Values, []));

    [Theory]
    [InlineData("blockdev-sn", "blockdev-snapshot blockdev-snapshot-delete-internal-sync blockdev-snapshot-internal-sync blockdev-snapshot-sync")]
    [InlineData("block_", "block_resize")]
    [InlineData("nope ", "")]
    [InlineData("quit ", "")]
    [InlineData("block_resize ", "device= node-name= size=")]
    [InlineData("block_resize size=5 ", "device= node-name=")]
    [InlineData("block_resize s", "size=")]
    [InlineData("blockdev-add dr", "driver=")]
    [InlineData("blockdev-add driver=r", "driver=raw")]
    [InlineData("blockdev-add discard=", "discard=ignore discard=unmap")]
    [InlineData("blockdev-add driver=null-co re", "read-only= read-zeroes=")]
    [InlineData("blockdev-add driver=null-co read-zeroes=", "read-zeroes=false read-zeroes=true")]
    [InlineData("blockdev-add driver=raw fi", "file=")]
    [InlineData("blockdev-add driver=raw file.dr", "file.driver=")]
    [InlineData("blockdev-add driver=raw file.driver=c", "file.driver=copy-on-read")]
    [InlineData("blockdev-add driver=raw file.driver=file file.fi", "file.filename=")]
    [InlineData("blockdev-add cache", "cache.")]
    [InlineData("blockdev-add cache.", "cache.direct= cache.no-flush=")]
    [InlineData("blockdev-add driver=qcow2 overlap-check=c", "overlap-check=constant overlap-check=cached")]
    public void GivesWhatMayStandThere(string text, string candidates) => Assert.Equal(candidates, string.Join(' ', s_completion.Complete(text)));
}
