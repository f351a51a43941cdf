using System.Diagnostics;
using System.Globalization;
using BlockMount.TestSupport;

namespace BlockMount.Bench;

/// <summary>A disk that one of the contenders serves, as a file or over NBD, until it is disposed.</summary>
internal sealed class ServedDisk : IAsyncDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(20);
    private static readonly double s_ticksPerSecond = 100;

    private readonly Func<Task> _stop;

    private ServedDisk(int pid, string address, Func<Task> stop)
    {
        Pid = pid;
        Address = address;
        _stop = stop;
    }

    /// <summary>The serving process.</summary>
    public int Pid { get; }

    /// <summary>A path, or an NBD URI.</summary>
    public string Address { get; }

    /// <summary>BlockMount: both forms, by <paramref name="nbd"/>.</summary>
    public static async Task<ServedDisk> BlockMountAsync(string folder, string image, bool nbd, string id)
    {
        string place = Path.Combine(folder, id);
        string[] arguments = nbd ? [image, "--nbd", $"unix:{place}"] : [image, place];
        string[] environment = [$"BLOCKMOUNT_RUNTIME_DIR={Path.Combine(folder, "run")}", ReleaseBinary.FullPath];
        (await ToolProcess.RunAsync("/usr/bin/env", [.. environment, .. arguments, "--id", id])).MustSucceed();
        return await AdoptAsync(folder, nbd ? $"nbd+unix:///?socket={place}" : place, id);
    }

    /// <summary>A BlockMount daemon that was started already.</summary>
    public static async Task<ServedDisk> AdoptAsync(string folder, string address, string id)
    {
        string[] environment = [$"BLOCKMOUNT_RUNTIME_DIR={Path.Combine(folder, "run")}", ReleaseBinary.FullPath];
        string listed = (await ToolProcess.RunAsync("/usr/bin/env", [.. environment, "ls", "--json"])).MustSucceed().Output;
        using System.Text.Json.JsonDocument document = System.Text.Json.JsonDocument.Parse(listed);
        int pid = document.RootElement.EnumerateArray().First(entry => entry.GetProperty("id").GetString() == id).GetProperty("pid").GetInt32();
        return new ServedDisk(pid, address, async () => (await ToolProcess.RunAsync("/usr/bin/env", [.. environment, "umount", id])).MustSucceed());
    }

    /// <summary>Debian's qemu-storage-daemon with a FUSE export.</summary>
    public static async Task<ServedDisk> QemuFuseAsync(string folder, string image, string id)
    {
        string place = Path.Combine(folder, id);
        await File.WriteAllBytesAsync(place, []);
        Process process = ToolProcess.Start(
            "qemu-storage-daemon",
            "--blockdev", $"driver=qcow2,node-name=disk,discard=unmap,file.driver=file,file.filename={image}",
            "--export", $"type=fuse,id=e,node-name=disk,mountpoint={place},writable=on");
        await WaitAsync(process, () => new FileInfo(place).Length > 0);
        return new ServedDisk(process.Id, place, () => EndAsync(process, place));
    }

    /// <summary>Debian's qemu-nbd on a Unix socket.</summary>
    public static async Task<ServedDisk> QemuNbdAsync(string folder, string image, string id)
    {
        string place = Path.Combine(folder, id);
        Process process = ToolProcess.Start("qemu-nbd", "-f", "qcow2", "-t", "-e", "16", "--discard=unmap", "-k", place, image);
        await WaitAsync(process, () => File.Exists(place));
        return new ServedDisk(process.Id, $"nbd+unix:///?socket={place}", () => EndAsync(process, place));
    }

    /// <summary>User and system time that the process has used, in seconds.</summary>
    public double CpuSeconds()
    {
        string stat = File.ReadAllText($"/proc/{Pid}/stat");
        string[] fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
        long ticks = long.Parse(fields[14 - 3], CultureInfo.InvariantCulture) + long.Parse(fields[15 - 3], CultureInfo.InvariantCulture);
        return ticks / s_ticksPerSecond;
    }

    /// <summary>Resident memory in bytes.</summary>
    public long ResidentBytes()
    {
        string line = File.ReadLines($"/proc/{Pid}/status").First(text => text.StartsWith("VmRSS:", StringComparison.Ordinal));
        return long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) << 10;
    }

    /// <summary>Stops serving and waits for the end.</summary>
    public async ValueTask DisposeAsync() => await _stop();

    private static async Task WaitAsync(Process process, Func<bool> ready)
    {
        Stopwatch watch = Stopwatch.StartNew();
        while (!ready())
        {
            if (process.HasExited || watch.Elapsed > s_patience)
            {
                string error = process.HasExited ? await process.StandardError.ReadToEndAsync() : "no answer";
                process.Kill();
                throw new InvalidOperationException($"{process.StartInfo.FileName} does not serve: {error}");
            }

            await Task.Delay(10);
        }
    }

    private static async Task EndAsync(Process process, string place)
    {
        (await ToolProcess.RunAsync("kill", "-TERM", process.Id.ToString(CultureInfo.InvariantCulture))).MustSucceed();
        await process.WaitForExitAsync();
        process.Dispose();
        File.Delete(place);
    }
}
