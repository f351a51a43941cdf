using BlockMount.Interop.Cli;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Serving;

/// <summary>What tests of served qcow2 images share: making images with qemu-img, mounting them, and judging them afterwards.</summary>
public abstract class ServedImageFixture : CliFixture
{
    /// <summary>Makes an image with qemu-img create.</summary>
    protected async Task<string> CreateAsync(string name, string options, long size, string? backing = null, string? backingFormat = null)
    {
        List<string> arguments = ["create", "-q", "-f", "qcow2", "-o", options];
        if (backing is not null)
        {
            arguments.AddRange(["-b", backing, "-F", backingFormat!]);
        }

        arguments.AddRange([this[name], QemuImg.Bytes(size)]);
        await QemuImg.RunAsync([.. arguments]);
        return this[name];
    }

    /// <summary>Mounts on "m" in the test's folder, with the engine of this run unless <paramref name="more"/> names one; returns the path of the mounted file.</summary>
    protected async Task<string> MountAsync(string image, params string[] more)
    {
        (await RunAsync([image, this["m"], .. RunOptions.Arguments, .. more])).MustSucceed();
        return this["m"];
    }

    /// <summary>Unmounts; the image is closed cleanly when this returns.</summary>
    protected async Task UmountAsync() => (await RunAsync("umount", this["m"])).MustSucceed();

    /// <summary>After a clean close: no error, no leak, and the guest's bytes are those of <paramref name="model"/>.</summary>
    protected async Task ImageIsCleanAndEqualsAsync(string image, byte[] model)
    {
        QemuImg.Verdict verdict = await QemuImg.CheckAsync(image);
        Assert.True(verdict.ExitCode == 0, verdict.Text);
        byte[] guest = await QemuImg.ReadGuestAsync(image, this["guest.raw"]);
        EqualBytes(model, guest);
    }

    /// <summary>Tells the first difference instead of printing megabytes.</summary>
    protected static void EqualBytes(byte[] expected, byte[] actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        int same = expected.AsSpan().CommonPrefixLength(actual);
        Assert.True(same == expected.Length, $"bytes differ from offset {same} on");
    }

    /// <summary>Opens the mounted file for positional I/O.</summary>
    protected static FileStream OpenDisk(string path) =>
        new(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0);
}
