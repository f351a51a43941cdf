using BlockMount.Exports.Fuse;
using Xunit;

namespace BlockMount.Tests.Exports.Fuse;

/// <summary>Lines of /proc/self/mountinfo.</summary>
public sealed class MountTableTests
{
    [Theory]
    [InlineData("36 35 98:0 / /mnt/disk rw,noatime shared:1 master:2 - fuse.blockmount /images/a.raw rw", 36, "/mnt/disk", "fuse.blockmount", "/images/a.raw", 0)]
    [InlineData("7 1 0:5 / /a\\040b\\134c rw - ext4 /dev/vda rw", 7, "/a b\\c", "ext4", "/dev/vda", 5)]
    public void Line_Valid_IsTakenApart(string line, int id, string mountPoint, string type, string source, uint minor)
    {
        Assert.True(MountEntry.TryParse(line, out MountEntry entry));
        Assert.Equal(new MountEntry(id, mountPoint, type, source, minor), entry);
    }

    [Theory]
    [InlineData("")]
    [InlineData("36 35 98:0 / /mnt rw")]
    [InlineData("x 35 98:0 / /mnt rw - ext4 /dev/vda rw")]
    [InlineData("36 35 98:0 / /mnt rw -")]
    [InlineData("36 35 98: / /mnt rw - ext4 /dev/vda rw")]
    public void Line_Malformed_IsRefused(string line) => Assert.False(MountEntry.TryParse(line, out _));
}
