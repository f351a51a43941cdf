using System.Security.Cryptography;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Fuse;

/// <summary>Data through a real mount, by programs that know nothing of it.</summary>
public sealed class FuseTransferTests
{
    private const int MiB = 1 << 20;

    [RequiresFuseFact("dd")]
    public async Task Dd_InAndOut_KeepsEveryByte()
    {
        await using MountedDisk disk = await MountedDisk.InMemoryAsync(37 * MiB + 512);
        byte[] content = RandomNumberGenerator.GetBytes(37 * MiB + 512);
        await File.WriteAllBytesAsync(disk.Folder["in"], content);

        await RunDdAsync($"if={disk.Folder["in"]}", $"of={disk.Path}", "bs=3M", "conv=notrunc,fsync");
        await RunDdAsync($"if={disk.Path}", $"of={disk.Folder["out"]}", "bs=7777777");

        Assert.Equal(SHA256.HashData(content), SHA256.HashData(await File.ReadAllBytesAsync(disk.Folder["out"])));
    }

    private static async Task RunDdAsync(params string[] arguments) =>
        (await ToolProcess.RunAsync("dd", arguments)).MustSucceed();
}
