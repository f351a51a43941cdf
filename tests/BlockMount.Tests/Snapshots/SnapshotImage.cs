using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Formats;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Snapshots;

/// <summary>An image in a host file, worked on by this program and by qemu-img in turns; qemu-img must find it clean after every step.</summary>
internal sealed class SnapshotImage(ScratchFolder folder, string name = "image")
{
    internal string Path => folder[name];

    /// <summary>Opens the image for the time of <paramref name="use"/>.</summary>
    internal async Task<T> OpenAsync<T>(Func<BlockDevice, ValueTask<T>> use, bool readOnly = false, string? snapshot = null)
    {
        ChainOpener opener = new(PosixStorage.Instance, new OpenPolicy());
        BlockDevice device = new("test", await opener.OpenAsync(Path, new ChainOpenOptions { ReadOnly = readOnly, Snapshot = snapshot }), readOnly);
        try
        {
            return await use(device);
        }
        finally
        {
            await device.DisposeAsync();
        }
    }

    /// <summary>What the disk, or one of its snapshots, holds in the eyes of this program.</summary>
    internal Task<byte[]> ReadAsync(string? snapshot = null) => OpenAsync(ReadAllAsync, readOnly: true, snapshot);

    /// <summary>What the disk holds in the eyes of qemu-img.</summary>
    internal Task<byte[]> QemuReadAsync() => QemuImg.ReadGuestAsync(Path, folder["guest"]);

    /// <summary>What a snapshot holds in the eyes of qemu-img, with the size that the disk has now.</summary>
    internal async Task<byte[]> QemuReadAsync(string snapshot)
    {
        await QemuImg.RunAsync("convert", "-f", "qcow2", "-l", $"snapshot.name={snapshot}", "-O", "raw", Path, folder["guest"]);
        return await File.ReadAllBytesAsync(folder["guest"]);
    }

    internal async Task CreateAsync(string snapshot)
    {
        await OpenAsync(device => device.CreateSnapshotAsync(snapshot, new SnapshotMoment { Date = DateTimeOffset.UtcNow }));
        await AssertCleanAsync($"create {snapshot}");
    }

    internal async Task ApplyAsync(string snapshot)
    {
        await OpenAsync(async device =>
        {
            await device.ApplySnapshotAsync(snapshot);
            return true;
        });
        await AssertCleanAsync($"apply {snapshot}");
    }

    internal async Task DeleteAsync(string snapshot)
    {
        await OpenAsync(async device =>
        {
            await device.DeleteSnapshotAsync(snapshot);
            return true;
        });
        await AssertCleanAsync($"delete {snapshot}");
    }

    /// <summary>One of qemu-img's snapshot commands: -c, -a, -d.</summary>
    internal async Task QemuAsync(string command, string snapshot)
    {
        await QemuImg.RunAsync("snapshot", command, snapshot, Path);
        await AssertCleanAsync($"qemu-img snapshot {command} {snapshot}");
    }

    internal Task IoAsync(params string[] commands) => QemuImg.IoAsync(Path, commands);

    internal async Task AssertCleanAsync(string after)
    {
        QemuImg.Verdict verdict = await QemuImg.CheckAsync(Path);
        Assert.True(verdict.ExitCode == 0, $"after '{after}': {verdict.Text}");
    }

    /// <summary>Equal, byte by byte and in length.</summary>
    internal static bool Same(byte[] left, byte[] right) => left.AsSpan().SequenceEqual(right);

    private static async ValueTask<byte[]> ReadAllAsync(BlockDevice device)
    {
        byte[] content = new byte[device.Size];
        if (content.Length > 0)
        {
            await device.ReadAsync(0, content);
        }

        return content;
    }
}
