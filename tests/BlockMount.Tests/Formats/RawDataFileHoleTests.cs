using System.Globalization;
using System.Text.Json;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Formats;

/// <summary>
/// Block status of images with an external data file. Raw ones report as zeros what qemu-img map calls zeros in the image or in the data file by itself. (In the
/// image it sees what the tables know, which is mostly that all of it is data: true, but of no use to whoever copies it.)
/// </summary>
public sealed class RawDataFileHoleTests
{
    private const int Size = 4 << 20;

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData("cluster_size=65536", false)]
    [InlineData("cluster_size=65536", true)]
    [InlineData("cluster_size=512", false)]
    [InlineData("cluster_size=16384,extended_l2=on", false)]
    public async Task Status_RawDataFile_IsWhatQemuSaysOfTheFile(string options, bool readOnly)
    {
        using ScratchFolder folder = new();
        await MakeAsync(folder, $"{options},data_file_raw=on");
        List<Run> expected = Either(await QemuMapAsync(folder["data"], "raw"), await QemuMapAsync(folder["image"], "qcow2"));
        Assert.True(expected.Count(run => run.IsZero) >= 3, "the file system made no holes: nothing to see");
        await using FormatNode node = await OpenAsync(folder, readOnly);
        Assert.Equal(expected, await StatusAsync(node, MapPurpose.Status));
        // Reads do not ask the file system.
        Assert.Equal(await QemuMapAsync(folder["image"], "qcow2"), await StatusAsync(node, MapPurpose.Transfer));
    }

    // The tables of other data files know what was never written; what lies in the file elsewhere means nothing.
    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task Status_PlainDataFile_IsWhatTheTablesSay()
    {
        using ScratchFolder folder = new();
        await MakeAsync(folder, "cluster_size=65536");
        List<Run> expected = await QemuMapAsync(folder["image"], "qcow2");
        await using FormatNode node = await OpenAsync(folder, readOnly: true);
        Assert.Equal(expected, await StatusAsync(node, MapPurpose.Status));
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task Status_AfterWritesAndDiscards_FollowsTheFile()
    {
        using ScratchFolder folder = new();
        await MakeAsync(folder, "data_file_raw=on");
        await using FormatNode node = await OpenAsync(folder, readOnly: false);
        byte[] data = new byte[64 << 10];
        data.AsSpan().Fill(7);
        await node.WriteAsync(3 << 20, data);
        await node.DiscardAsync(1 << 20, 64 << 10);
        await node.ZeroAsync((2 << 20) + (32 << 10), 32 << 10, ZeroFlags.MayUnmap);
        await node.FlushAsync();
        List<Run> now = await StatusAsync(node, MapPurpose.Status);
        Assert.Equal(await QemuMapAsync(folder["data"], "raw"), now);
        Assert.Equal(96 << 10, now.Where(run => !run.IsZero).Sum(run => run.Length) - FirstBlock(now));
    }

    // A file that is shorter than the disk is zeros behind its end.
    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task Status_FileShorterThanTheDisk_IsZeroBehindItsEnd()
    {
        using ScratchFolder folder = new();
        await MakeAsync(folder, "data_file_raw=on");
        await using (FileStream file = File.OpenWrite(folder["data"]))
        {
            file.SetLength((1 << 20) + (32 << 10));
        }

        await using FormatNode node = await OpenAsync(folder, readOnly: true);
        List<Run> runs = await StatusAsync(node, MapPurpose.Status);
        Assert.Equal(new Run(Size - (1 << 20) - (32 << 10), IsZero: true), runs[^1]);
    }

    // QEMU writes the first block of a new file, to learn how it must be aligned.
    private static long FirstBlock(List<Run> runs) => runs[0].IsZero ? 0 : runs[0].Length;

    private static async Task MakeAsync(ScratchFolder folder, string options)
    {
        await QemuImg.RunAsync(
            "create", "-q", "-f", "qcow2", "-o", $"data_file={folder["data"]},{options}", folder["image"], Size.ToString(CultureInfo.InvariantCulture));
        await QemuImg.IoAsync(folder["image"], "write -P 1 1M 64k", "write -P 2 2M 64k");
    }

    private static async Task<FormatNode> OpenAsync(ScratchFolder folder, bool readOnly)
    {
        // Without locks, so that qemu-img can look meanwhile.
        StorageOpenOptions how = new() { ReadOnly = readOnly, Lock = false };
        StorageFile data = await PosixStorage.Instance.OpenAsync(folder["data"], how);
        StorageFile image = await PosixStorage.Instance.OpenAsync(folder["image"], how);
        Qcow2Driver driver = await Qcow2Driver.OpenAsync(image, new Qcow2OpenOptions { ReadOnly = readOnly, DataFile = data, DiscardToHost = true });
        return new FormatNode("node0", "image", driver, backing: null);
    }

    // Neighbours of one kind are one run: how an answer is cut is nobody's business.
    private static async Task<List<Run>> StatusAsync(FormatNode node, MapPurpose purpose)
    {
        List<Run> runs = [];
        for (long offset = 0; offset < Size;)
        {
            BlockStatus status = await node.StatusAsync(offset, Size - offset, purpose);
            Add(runs, status.Length, status.IsZero);
            offset += status.Length;
        }

        return runs;
    }

    private static async Task<List<Run>> QemuMapAsync(string path, string format)
    {
        using JsonDocument map = JsonDocument.Parse(await QemuImg.RunAsync("map", "--output", "json", "-f", format, path));
        List<Run> runs = [];
        foreach (JsonElement extent in map.RootElement.EnumerateArray())
        {
            Add(runs, extent.GetProperty("length").GetInt64(), extent.GetProperty("zero").GetBoolean());
        }

        return runs;
    }

    private static List<Run> Either(List<Run> one, List<Run> other)
    {
        bool[] zero = new bool[Size / 512];
        foreach (List<Run> runs in new[] { one, other })
        {
            int sector = 0;
            foreach (Run run in runs)
            {
                int count = (int)(run.Length / 512);
                zero.AsSpan(sector, run.IsZero ? count : 0).Fill(true);
                sector += count;
            }
        }

        List<Run> either = [];
        Array.ForEach(zero, isZero => Add(either, 512, isZero));
        return either;
    }

    private static void Add(List<Run> runs, long length, bool isZero)
    {
        if (runs.Count > 0 && runs[^1].IsZero == isZero)
        {
            length += runs[^1].Length;
            runs.RemoveAt(runs.Count - 1);
        }

        runs.Add(new Run(length, isZero));
    }

    private sealed record Run(long Length, bool IsZero);
}
