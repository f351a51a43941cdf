using System.Diagnostics;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Cli;

/// <summary>
/// A folder and a registry of its own for tests that run the release binary. Whatever a test leaves mounted is unmounted, and
/// daemons that are left are ended by their pid.
/// </summary>
public abstract class CliFixture : IAsyncLifetime, IDisposable
{
    private readonly ScratchFolder _folder = new();

    /// <summary>The test's folder.</summary>
    protected ScratchFolder Folder => _folder;

    /// <summary>Absolute path of a name in the test's folder.</summary>
    protected string this[string name] => _folder[name];

    /// <inheritdoc/>
    public Task InitializeAsync() => Task.CompletedTask;

    /// <summary>Runs blockmount to its end with the test's own registry.</summary>
    protected Task<ToolResult> RunAsync(params string[] arguments) =>
        ToolProcess.RunAsync("/usr/bin/env", [$"BLOCKMOUNT_RUNTIME_DIR={_folder["run"]}", ReleaseBinary.FullPath, .. arguments]);

    /// <summary>Makes a raw image of that many bytes with recognisable content.</summary>
    protected string MakeImage(string name, int bytes)
    {
        byte[] content = new byte[bytes];
        new Random(bytes).NextBytes(content);
        File.WriteAllBytes(this[name], content);
        return this[name];
    }

    /// <summary>Process ids of the daemons that the test's registry names.</summary>
    protected async Task<int[]> PidsAsync()
    {
        ToolResult listed = (await RunAsync("ls", "--json")).MustSucceed();
        using System.Text.Json.JsonDocument document = System.Text.Json.JsonDocument.Parse(listed.Output);
        return [.. document.RootElement.EnumerateArray().Select(entry => entry.GetProperty("pid").GetInt32())];
    }

    /// <summary>
    /// Ends a process as a crash would, and waits until nothing of it runs: it holds no file and no lock any more. That its parent, which is not this process, takes
    /// note of it may last seconds and is not waited for.
    /// </summary>
    protected static async Task KillAsync(int pid)
    {
        using Process process = Process.GetProcessById(pid);
        process.Kill();
        Stopwatch watch = Stopwatch.StartNew();
        while (IsRunning(pid))
        {
            Assert.True(watch.Elapsed < TimeSpan.FromSeconds(10), $"process {pid} does not end");
            await Task.Delay(1);
        }
    }

    // The first thread may be a zombie long before the others have ended.
    private static bool IsRunning(int pid)
    {
        try
        {
            // After the name, which is in brackets, comes the state.
            string stat = File.ReadAllText($"/proc/{pid}/stat");
            return stat[stat.LastIndexOf(')')..][2] is not ('Z' or 'X') || Directory.GetDirectories($"/proc/{pid}/task").Length > 1;
        }
        catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    /// <inheritdoc/>
    public virtual async Task DisposeAsync()
    {
        if (Directory.Exists(this["run"]))
        {
            foreach (int pid in await PidsAsync())
            {
                await KillAsync(pid);
            }
        }

        string[] mounts = [.. File.ReadLines("/proc/self/mountinfo").Select(line => line.Split(' ')[4]).Where(path => path.StartsWith(_folder.FullPath, StringComparison.Ordinal))];
        foreach (string mount in mounts)
        {
            await ToolProcess.RunAsync("umount", "-l", mount);
        }
    }

    /// <summary>Removes the folder, after what was mounted in it has gone.</summary>
    public void Dispose()
    {
        _folder.Dispose();
        GC.SuppressFinalize(this);
    }
}
