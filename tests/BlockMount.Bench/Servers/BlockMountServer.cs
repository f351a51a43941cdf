using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using BlockMount.TestSupport;

namespace BlockMount.Bench.Servers;

/// <summary>
/// A disk served by a daemon of the release binary, which runs in the background. Its registry is the folder in BLOCKMOUNT_RUNTIME_DIR, which
/// the harness sets for itself and so for every command.
/// </summary>
internal sealed class BlockMountServer : ServedDisk
{
    private readonly string _id;
    private readonly string? _mountPoint;

    private BlockMountServer(int pid, string address, string id, string? mountPoint)
        : base(pid, address)
    {
        _id = id;
        _mountPoint = mountPoint;
    }

    /// <summary>Mounts on <paramref name="place"/>; the mount answers when this returns.</summary>
    /// <param name="options">For -o, besides those that the image needs; empty for none.</param>
    public static async Task<BlockMountServer> MountAsync(ImageFile image, string place, string options)
    {
        string id = Path.GetFileName(place);
        Stopwatch watch = Stopwatch.StartNew();
        await StartAsync(id, [image.Path, place, "-f", image.Format, "--id", id, .. Options(image, options)]);
        await ReadOnceAsync(place);
        TimeSpan answeredAfter = watch.Elapsed;
        return new BlockMountServer(await PidAsync(id), place, id, place) { AnsweredAfter = answeredAfter };
    }

    /// <summary>Serves NBD on a Unix socket.</summary>
    /// <param name="options">For -o; empty for none.</param>
    public static async Task<BlockMountServer> NbdAsync(ImageFile image, string place, string options)
    {
        string id = Path.GetFileName(place);
        await StartAsync(id, [image.Path, "--nbd", $"unix:{place}", "-f", image.Format, "--id", id, .. Options(image, options)]);
        return new BlockMountServer(await PidAsync(id), $"nbd+unix:///?socket={place}", id, null);
    }

    /// <summary>Ends every daemon in the registry: what a start that was interrupted may have left.</summary>
    public static async Task EndAllAsync()
    {
        foreach ((string id, int pid) in await ListAsync())
        {
            await EndAsync(id, pid);
        }
    }

    public override async ValueTask DisposeAsync()
    {
        await EndAsync(_id, Pid!.Value);
        if (_mountPoint is not null)
        {
            await Mounts.DetachAsync(_mountPoint);
        }
    }

    private static string[] Options(ImageFile image, string options)
    {
        string all = string.Join(',', new[] { image.ReadOnly ? "ro" : "", options }.Where(option => option.Length > 0));
        return all.Length > 0 ? ["-o", all] : [];
    }

    private static async Task StartAsync(string id, string[] arguments)
    {
        ToolResult started = await ReleaseBinary.RunAsync(arguments);
        if (started.ExitCode != 0)
        {
            // Ctrl-C may have ended the command after the daemon was up.
            foreach ((_, int pid) in (await ListAsync()).Where(daemon => daemon.Id == id))
            {
                await EndAsync(id, pid);
            }

            started.MustSucceed();
        }
    }

    private static async Task<int> PidAsync(string id) => (await ListAsync()).First(daemon => daemon.Id == id).Pid;

    private static async Task<List<(string Id, int Pid)>> ListAsync()
    {
        using JsonDocument document = JsonDocument.Parse((await ReleaseBinary.RunAsync("ls", "--json")).MustSucceed().Output);
        return [.. document.RootElement.EnumerateArray().Select(entry => (entry.GetProperty("id").GetString()!, entry.GetProperty("pid").GetInt32()))];
    }

    // `umount` waits for the end. When it fails (Ctrl-C reaches it too), the daemon is asked by signal, and then not asked.
    private static async Task EndAsync(string id, int pid)
    {
        ToolResult unmounted = await ReleaseBinary.RunAsync("umount", id);
        if (unmounted.ExitCode == 0)
        {
            return;
        }

        foreach (string signal in new[] { "-TERM", "-KILL" })
        {
            _ = await ToolProcess.RunAsync("kill", signal, pid.ToString(CultureInfo.InvariantCulture));
            for (int tries = 0; tries < 500; tries++)
            {
                if (!Directory.Exists($"/proc/{pid}"))
                {
                    return;
                }

                await Task.Delay(10);
            }
        }

        throw new InvalidOperationException($"the daemon {id} (process {pid}) does not end: {unmounted.Error}");
    }
}
