using System.Runtime.InteropServices;
using BlockMount.Bench.Servers;
using BlockMount.TestSupport;

namespace BlockMount.Bench;

/// <summary>Compares the release binary with QEMU, nbdkit and the native file, and checks floors and goals. See scripts/bench.</summary>
internal static class Program
{
    private const int Failed = 1;
    private const int WrongCommandLine = 2;
    private const int FloorsMissed = 3;
    private const int Interrupted = 130;

    private static async Task<int> Main(string[] arguments)
    {
        string? missing = Requirements.WhatIsMissing(
            Needs.Fuse | Needs.Release, "fio", "qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon", "nbdkit");
        if (missing is not null)
        {
            await Console.Error.WriteLineAsync($"bench: {missing}");
            return Failed;
        }

        using CancellationTokenSource stop = new();
        // Neither signal ends the process: the run stops, and what it started and mounted is taken down first.
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, signal => Stop(signal, stop));
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, signal => Stop(signal, stop));
        using PosixSignalRegistration hangUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, signal => Stop(signal, stop));
        try
        {
            BenchSettings settings = BenchSettings.Read(arguments, Environment.GetEnvironmentVariable);
            await using BenchFolder folder = BenchFolder.Create(settings.Folder);
            // Every command of the release binary that the harness runs sees daemons of this run, and no others.
            Environment.SetEnvironmentVariable("BLOCKMOUNT_RUNTIME_DIR", Path.Combine(folder.FullPath, "run"));
            return await new BenchSession(settings, folder).RunAsync(stop.Token) ? 0 : FloorsMissed;
        }
        catch (FormatException error)
        {
            await Console.Error.WriteLineAsync($"bench: {error.Message}");
            return WrongCommandLine;
        }
        catch (Exception) when (stop.IsCancellationRequested)
        {
            // Ctrl-C reaches the programs in the foreground too, so that the first to end may have been one of them: no failure of its own.
            await Console.Error.WriteLineAsync("bench: stopped");
            return Interrupted;
        }
        catch (Exception error) when (error is InvalidOperationException or IOException or TimeoutException)
        {
            await Console.Error.WriteLineAsync($"bench: {error.Message}");
            return Failed;
        }
    }

    private static void Stop(PosixSignalContext signal, CancellationTokenSource stop)
    {
        signal.Cancel = true;
        stop.Cancel();
    }
}
