using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Locking;

/// <summary>
/// BlockMount and QEMU keep each other off an image, in both directions and in every mode (FEATURES K7-K11, K17).
/// QEMU holds an image as qemu-io with its standard input open, and tries one as qemu-io that only quits.
/// </summary>
public sealed class ImageLockTests : IDisposable
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(30);

    private readonly ScratchFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [RequiresTheory(Needs.None, "qemu-io", "qemu-img")]
    [InlineData("rw", "rw", "Failed to get \"write\" lock")]
    [InlineData("rw", "ro", "Failed to get shared \"write\" lock")]
    [InlineData("rw", "force-share", null)]
    [InlineData("ro", "rw", "Failed to get \"write\" lock")]
    [InlineData("ro", "ro", null)]
    [InlineData("ro", "force-share", null)]
    [InlineData("force-share", "rw", null)]
    [InlineData("force-share", "ro", null)]
    [InlineData("force-share", "force-share", null)]
    public async Task QemuOpens_WhileWeHoldTheImage_IsAdmittedOrRefused(string ours, string theirs, string? expected)
    {
        string path = await CreateImageAsync();
        await using StorageFile held = await PosixStorage.Instance.OpenAsync(path, OurOptions(ours));
        ToolResult result = await ToolProcess.RunAsync("qemu-io", [.. TheirArguments(theirs, path), "-c", "quit"]);
        if (expected is null)
        {
            result.MustSucceed();
        }
        else
        {
            Assert.NotEqual(0, result.ExitCode);
            Assert.Contains(expected, result.Error, StringComparison.Ordinal);
        }
    }

    [RequiresTheory(Needs.None, "qemu-io", "qemu-img")]
    [InlineData("rw", "rw", "Failed to get \"write\" lock")]
    [InlineData("rw", "ro", "Failed to get shared \"write\" lock")]
    [InlineData("rw", "force-share", null)]
    [InlineData("ro", "rw", "Failed to get \"write\" lock")]
    [InlineData("ro", "ro", null)]
    [InlineData("ro", "force-share", null)]
    [InlineData("force-share", "rw", null)]
    [InlineData("force-share", "ro", null)]
    [InlineData("force-share", "force-share", null)]
    public async Task WeOpen_WhileQemuHoldsTheImage_IsAdmittedOrRefusedWithTheHolder(string theirs, string ours, string? expected)
    {
        string path = await CreateImageAsync();
        using Process qemu = await HoldAsync(theirs, path);
        try
        {
            if (expected is null)
            {
                await using StorageFile file = await PosixStorage.Instance.OpenAsync(path, OurOptions(ours));
                return;
            }

            BlockMountException error = await Assert.ThrowsAsync<BlockMountException>(
                async () => await PosixStorage.Instance.OpenAsync(path, OurOptions(ours)));
            Assert.StartsWith($"Could not open '{path}': {expected}, held by process {qemu.Id} (qemu-io", error.Message, StringComparison.Ordinal);
        }
        finally
        {
            await EndAsync(qemu);
        }
    }

    [RequiresToolFact("qemu-img")]
    public async Task QemuImgCreates_OverAnImageWeHold_IsRefusedAndChangesNothing()
    {
        string path = await CreateImageAsync();
        byte[] before = await File.ReadAllBytesAsync(path);
        await using StorageFile held = await PosixStorage.Instance.OpenAsync(path, new StorageOpenOptions());
        ToolResult result = await ToolProcess.RunAsync("qemu-img", "create", "-f", "qcow2", path, "1M");
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains("Failed to get \"write\" lock", result.Error, StringComparison.Ordinal);
        Assert.Equal(before, await File.ReadAllBytesAsync(path));
    }

    [RequiresTheory(Needs.None, "qemu-io", "qemu-img")]
    [InlineData("rw")]
    [InlineData("ro")]
    public async Task WeCreate_OverAnImageQemuHolds_IsRefusedAndChangesNothing(string theirs)
    {
        string path = await CreateImageAsync();
        using Process qemu = await HoldAsync(theirs, path);
        try
        {
            byte[] before = await File.ReadAllBytesAsync(path);
            BlockMountException error = await Assert.ThrowsAsync<BlockMountException>(
                async () => await PosixStorage.Instance.CreateAsync(path, new StorageCreateOptions { Overwrite = true }));
            Assert.Contains("Failed to get \"write\" lock", error.Message, StringComparison.Ordinal);
            Assert.Equal(before, await File.ReadAllBytesAsync(path));
        }
        finally
        {
            await EndAsync(qemu);
        }
    }

    [RequiresToolFact("qemu-img", "qemu-io")]
    public async Task Close_GivesTheImageBackToQemu()
    {
        string path = await CreateImageAsync();
        StorageFile held = await PosixStorage.Instance.OpenAsync(path, new StorageOpenOptions());
        await held.DisposeAsync();
        (await ToolProcess.RunAsync("qemu-io", "-f", "qcow2", "-c", "write 0 64k", path)).MustSucceed();
        (await ToolProcess.RunAsync("qemu-img", "check", path)).MustSucceed();
    }

    [RequiresTheory(Needs.None, "qemu-io", "qemu-img")]
    [InlineData("rw")]
    [InlineData("ro")]
    [InlineData("force-share")]
    public async Task OurLockBytes_AreThoseOfQemu(string mode)
    {
        string path = await CreateImageAsync();
        string theirs;
        using (Process qemu = await HoldAsync(mode, path))
        {
            theirs = LockedBytes(qemu.Id, path);
            await EndAsync(qemu);
        }

        await using StorageFile held = await PosixStorage.Instance.OpenAsync(path, OurOptions(mode));
        Assert.Equal(theirs, LockedBytes(Environment.ProcessId, path));
    }

    private async Task<string> CreateImageAsync()
    {
        string path = _folder["image.qcow2"];
        (await ToolProcess.RunAsync("qemu-img", "create", "-q", "-f", "qcow2", path, "1M")).MustSucceed();
        return path;
    }

    private static StorageOpenOptions OurOptions(string mode) => mode switch
    {
        "rw" => new StorageOpenOptions(),
        "ro" => new StorageOpenOptions { ReadOnly = true },
        _ => new StorageOpenOptions { ReadOnly = true, ForceShare = true },
    };

    private static string[] TheirArguments(string mode, string path) => mode switch
    {
        "rw" => ["-f", "qcow2", path],
        "ro" => ["-f", "qcow2", "-r", path],
        _ => ["-f", "qcow2", "-r", "-U", path],
    };

    // qemu-io answers a command once the image is open and locked.
    private static async Task<Process> HoldAsync(string mode, string path)
    {
        Process qemu = ToolProcess.Start("qemu-io", TheirArguments(mode, path));
        using CancellationTokenSource patience = new(s_limit);
        await qemu.StandardInput.WriteLineAsync("length");
        await qemu.StandardInput.FlushAsync();
        while (await qemu.StandardOutput.ReadLineAsync(patience.Token) is { } line)
        {
            if (line.Contains("1 MiB", StringComparison.Ordinal))
            {
                return qemu;
            }
        }

        string error = await qemu.StandardError.ReadToEndAsync(patience.Token);
        await EndAsync(qemu);
        throw new InvalidOperationException($"qemu-io did not open the image: {error}");
    }

    private static async Task EndAsync(Process process)
    {
        process.StandardInput.Close();
        using CancellationTokenSource patience = new(s_limit);
        try
        {
            await process.WaitForExitAsync(patience.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill();
        }
    }

    // "100-101 103-103 ..." sorted, from the lines "lock:" of the descriptors that have the file open.
    private static string LockedBytes(int pid, string path)
    {
        SortedSet<string> ranges = [];
        foreach (string descriptor in Directory.GetFileSystemEntries($"/proc/{pid}/fd"))
        {
            if (new FileInfo(descriptor).LinkTarget != path)
            {
                continue;
            }

            foreach (string line in File.ReadLines($"/proc/{pid}/fdinfo/{Path.GetFileName(descriptor)}"))
            {
                string[] words = line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
                if (words.Length >= 8 && words[0] == "lock:" && words[2] == "OFDLCK")
                {
                    ranges.Add($"{words[4]} {words[^2]}-{words[^1]}");
                }
            }
        }

        return string.Join(' ', ranges);
    }
}
