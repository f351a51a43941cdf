using System.Diagnostics;
using BlockMount.TestSupport;

namespace BlockMount.Bench.Servers;

/// <summary>A program per processor that computes without pause, until it is disposed: the neighbours that a server has in real life.</summary>
internal sealed class BusyProcessors : IAsyncDisposable
{
    private readonly List<Process> _programs = [];

    /// <summary>Starts them.</summary>
    public static async Task<BusyProcessors> StartAsync()
    {
        BusyProcessors busy = new();
        try
        {
            for (int processor = 0; processor < Environment.ProcessorCount; processor++)
            {
                busy._programs.Add(ToolProcess.Start("sh", "-c", "while :; do :; done"));
            }

            return busy;
        }
        catch
        {
            await busy.DisposeAsync();
            throw;
        }
    }

    /// <summary>Ends them, by their process ids.</summary>
    public async ValueTask DisposeAsync()
    {
        foreach (Process program in _programs)
        {
            program.Kill();
            await program.WaitForExitAsync();
            program.Dispose();
        }
    }
}
