using System.Diagnostics;
using System.Globalization;
using BlockMount.TestSupport;

namespace BlockMount.Bench.Servers;

/// <summary>A server in the foreground that this harness started: owns the process, and ends it by its id.</summary>
internal sealed class ServerProcess : IAsyncDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(20);

    private readonly Process _process;
    private readonly Task<string> _output;
    private readonly Task<string> _error;

    private ServerProcess(Process process)
    {
        _process = process;
        // Read all the time, so that a talkative server never blocks.
        _output = process.StandardOutput.ReadToEndAsync();
        _error = process.StandardError.ReadToEndAsync();
    }

    /// <summary>Process id.</summary>
    public int Pid => _process.Id;

    /// <summary>Starts a server and returns once it serves.</summary>
    /// <param name="ready">Asked every millisecond.</param>
    /// <exception cref="InvalidOperationException">It ended, or did not serve within 20 seconds and was ended.</exception>
    public static async Task<ServerProcess> StartAsync(Func<bool> ready, string program, params string[] arguments)
    {
        ServerProcess server = new(ToolProcess.Start(program, arguments));
        try
        {
            await server.WaitAsync(ready);
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>SIGTERM, and SIGKILL for one that does not end within 20 seconds.</summary>
    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
        {
            // Fails when it ended by itself just now (Ctrl-C reaches servers too), which is what is wanted.
            _ = await ToolProcess.RunAsync("kill", "-TERM", Pid.ToString(CultureInfo.InvariantCulture));
        }

        using CancellationTokenSource patience = new(s_patience);
        try
        {
            await _process.WaitForExitAsync(patience.Token);
        }
        catch (OperationCanceledException)
        {
            Console.Error.WriteLine($"bench: {_process.StartInfo.FileName} (process {Pid}) did not end at SIGTERM; killing it");
            _process.Kill();
            await _process.WaitForExitAsync(CancellationToken.None);
        }

        _process.Dispose();
    }

    private async Task WaitAsync(Func<bool> ready)
    {
        Stopwatch watch = Stopwatch.StartNew();
        while (!ready())
        {
            if (_process.HasExited)
            {
                throw new InvalidOperationException($"{_process.StartInfo.FileName} does not serve: {await _output}{await _error}");
            }

            if (watch.Elapsed > s_patience)
            {
                throw new InvalidOperationException($"{_process.StartInfo.FileName} does not serve within {s_patience.TotalSeconds:0} s");
            }

            await Task.Delay(1);
        }
    }
}
