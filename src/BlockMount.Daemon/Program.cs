using BlockMount.Daemon.Cli;
using BlockMount.Daemon.Hosting;

namespace BlockMount.Daemon;

/// <summary>
/// Entry point. The form that mounts starts itself a second time as the daemon, as early as possible: .NET cannot fork,
/// and each millisecond spent here is paid twice.
/// </summary>
internal static class Program
{
    private static int Main(string[] arguments)
    {
        ErrorReport.InstallCrashHandler();
        ReadyNotification? ready = ReadyNotification.TakeFromEnvironment();
        return ready is null && BackgroundLauncher.Wants(arguments)
            ? BackgroundLauncher.Run(arguments)
            : CommandLine.Run(arguments, ready);
    }
}
