using System.Diagnostics;
using System.Globalization;
using BlockMount.Base.Interop;
using BlockMount.TestSupport;

namespace BlockMount.Interop.Daemon;

/// <summary>qemu-storage-daemon, or 'blockmount daemon', run with the same options in a folder of its own. The daemon that it starts is ended on disposal.</summary>
internal sealed class StorageDaemon : IDisposable
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(30);

    private readonly bool _ours;
    private readonly ScratchFolder _folder = new();
    private int _pid;

    public StorageDaemon(bool ours) => _ours = ours;

    /// <summary>Absolute path of a name in the folder, which "{dir}" stands for in options.</summary>
    public string this[string name] => _folder[name];

    /// <summary>Runs it to its end; with --daemonize that is when the daemon is ready.</summary>
    public Task<ToolResult> RunAsync(params string[] options) => ToolProcess.RunAsync(Program, Arguments(options));

    /// <summary>Starts it in the foreground, with its streams redirected; the caller's.</summary>
    public Process Start(params string[] options) => ToolProcess.Start(Program, Arguments(options));

    /// <summary>Starts it in the background; from then on <see cref="EndAsync"/> ends it.</summary>
    public async Task StartInBackgroundAsync(params string[] options)
    {
        (await RunAsync([.. options, "--daemonize", "--pidfile", "{dir}/pid"])).MustSucceed();
        await TakeOverAsync();
    }

    /// <summary>The same for a daemon that somebody else has started, with "pid" in the folder for its pidfile.</summary>
    public async Task TakeOverAsync() => _pid = int.Parse((await File.ReadAllTextAsync(this["pid"])).TrimEnd('\n'), CultureInfo.InvariantCulture);

    /// <summary>Sends a signal to the daemon in the background and waits until it is gone.</summary>
    public async Task EndAsync(int signal)
    {
        _ = LibcProcess.kill(_pid, signal);
        await UntilGoneAsync();
    }

    /// <summary>Waits until the daemon in the background is gone.</summary>
    public async Task UntilGoneAsync()
    {
        for (Stopwatch watch = Stopwatch.StartNew(); Directory.Exists($"/proc/{_pid}") && !IsZombie(_pid); await Task.Delay(20))
        {
            if (watch.Elapsed > s_limit)
            {
                throw new TimeoutException($"the daemon {_pid} does not end");
            }
        }

        _pid = 0;
    }

    /// <summary>What it printed first, without the program's name and the folder.</summary>
    public string FirstLine(ToolResult result)
    {
        string line = result.Error.Split('\n')[0];
        int colon = line.IndexOf(": ", StringComparison.Ordinal);
        return line[(colon + 2)..].Replace(_folder.FullPath, "{dir}", StringComparison.Ordinal);
    }

    public void Dispose()
    {
        if (_pid > 0)
        {
            _ = LibcProcess.kill(_pid, 9);
            UntilGoneAsync().Wait(s_limit);
        }

        _folder.Dispose();
    }

    private string Program => _ours ? ReleaseBinary.FullPath : Requirements.FindTool("qemu-storage-daemon")!;

    private string[] Arguments(string[] options)
    {
        IEnumerable<string> words = options.Select(word => word.Replace("{dir}", _folder.FullPath, StringComparison.Ordinal));
        return _ours ? ["daemon", .. words] : [.. words];
    }

    // Nobody may wait for it where these tests run as the first process of a container.
    private static bool IsZombie(int pid)
    {
        try
        {
            string stat = File.ReadAllText($"/proc/{pid}/stat");
            return stat[stat.LastIndexOf(')') + 2] == 'Z';
        }
        catch (IOException)
        {
            return true;
        }
    }
}
