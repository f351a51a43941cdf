using System.Globalization;
using BlockMount.Base;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Serving;

/// <summary>Who waits for the disk (aio=): the image is the same, whoever it is, and io_uring is not needed.</summary>
public sealed class EngineTests : ServedImageFixture
{
    private const int Size = 16 << 20;

    [RequiresTheory(Needs.Release | Needs.Fuse | Needs.IoUring, "qemu-img")]
    [InlineData("aio=io_uring,cache=none", false)]
    [InlineData("aio=io_uring,cache=none", true)]
    [InlineData("aio=io_uring,cache=writeback", true)]
    [InlineData("aio=threads,cache=none", true)]
    [InlineData("cache=none", true)]
    public async Task RandomWrites_ByManyAtOnce_EqualTheModelAndPassCheck(string words, bool backing)
    {
        byte[] model = new byte[Size];
        string? raw = backing ? MakeImage("base.raw", 5_000_192) : null;
        if (raw is not null)
        {
            File.ReadAllBytes(raw).CopyTo(model, 0);
        }

        string image = await CreateAsync("a.qcow2", "cluster_size=65536", Size, raw, raw is null ? null : "raw");
        string disk = await MountAsync(image, "-o", words);
        await WriteByManyAsync(disk, model);
        EqualBytes(model, await File.ReadAllBytesAsync(disk));
        await UmountAsync();
        await ImageIsCleanAndEqualsAsync(image, model);
    }

    [RequiresTheory(Needs.Release | Needs.Fuse, "gcc", "make")]
    [InlineData(Errno.EPERM, "switched off")]
    [InlineData(Errno.ENOSYS, "no io_uring")]
    public async Task IoUring_AskedForAndRefusedByTheKernel_MountsNothing(Errno errno, string reason)
    {
        string image = MakeImage("a.raw", 1 << 20);
        ToolResult result = await RunWithoutUringAsync(errno, image, this["m"], "-f", "raw", "-o", "aio=io_uring");
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("aio=io_uring", result.Error, StringComparison.Ordinal);
        Assert.Contains(reason, result.Error, StringComparison.Ordinal);
        Assert.Contains("aio=threads", result.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(this["m"]));
    }

    [RequiresFact(Needs.Release | Needs.Fuse, "gcc", "make")]
    public async Task IoUring_NotAskedForAndRefusedByTheKernel_ServesWithThreads()
    {
        string image = MakeImage("a.raw", 1 << 20);
        ToolResult result = await RunWithoutUringAsync(Errno.EPERM, image, this["m"], "-f", "raw", "-o", "cache=none", "--log-file", this["log"]);
        result.MustSucceed();
        EqualBytes(File.ReadAllBytes(image), File.ReadAllBytes(this["m"]));
        Assert.Contains("I/O threads instead of io_uring: io_uring is switched off", File.ReadAllText(this["log"]), StringComparison.Ordinal);
        await UmountAsync();
    }

    private async Task<ToolResult> RunWithoutUringAsync(Errno errno, params string[] arguments) =>
        await ToolProcess.RunAsync("/usr/bin/env", [
            $"BLOCKMOUNT_RUNTIME_DIR={this["run"]}", await NativeTests.BuildAsync("no_io_uring"), ((int)errno).ToString(CultureInfo.InvariantCulture),
            ReleaseBinary.FullPath, .. arguments]);

    // Each writer has every eighth piece to itself, so that the result does not depend on who is first.
    private static async Task WriteByManyAsync(string path, byte[] model)
    {
        const int Piece = 20_480;
        const int Writers = 8;
        using FileStream disk = OpenDisk(path);
        await Task.WhenAll(Enumerable.Range(0, Writers).Select(writer => Task.Run(() =>
        {
            Random random = new(writer);
            for (int i = 0; i < 150; i++)
            {
                int piece = (random.Next((Size / Piece / Writers) - 1) * Writers) + writer;
                int unit = random.Next(3) == 0 ? 1 : 4096;
                int start = random.Next(Piece / unit) * unit;
                int length = unit == 1 ? random.Next(1, Piece - start + 1) : Piece - start;
                Span<byte> part = model.AsSpan((piece * Piece) + start, length);
                random.NextBytes(part);
                RandomAccess.Write(disk.SafeFileHandle, part, (piece * Piece) + start);
                if (random.Next(30) == 0)
                {
                    CheckedFlush.Run(disk.SafeFileHandle);
                }
            }
        }))).WaitAsync(TimeSpan.FromSeconds(50));
    }
}
