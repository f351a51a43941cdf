using System.Collections;
using System.Runtime.InteropServices;
using System.Text;
using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Daemon.Cli;
using BlockMount.Daemon.Storage;

namespace BlockMount.Daemon.Hosting;

/// <summary>
/// Starts this program again as the daemon, in a session of its own, and waits until it says that it is ready. All checks
/// are made there: its standard error is ours until then, so this side only passes the exit code on.
/// </summary>
internal static unsafe class BackgroundLauncher
{
    // The daemon's descriptor of the readiness pipe; everything above is closed there.
    private const int ReadyFd = 3;

    private const string DiagnosticsVariable = "DOTNET_EnableDiagnostics";

    /// <summary>True for the form that mounts, unless it asks to stay in the foreground or for help; and for 'daemon' with --daemonize.</summary>
    public static bool Wants(string[] arguments)
    {
        if (arguments is [StorageCommand.Verb, ..])
        {
            return StorageRequest.WantsBackground(arguments[1..]);
        }

        if (arguments.Length == 0 || CommandLine.IsVerb(arguments[0]))
        {
            return false;
        }

        for (int i = 0; i < arguments.Length; i++)
        {
            // A monitor in the terminal needs the terminal.
            if (arguments[i] is "--foreground" or "--help" or "-h" or "-?" or "--version" or "--monitor=stdio"
                || (arguments[i] == "--monitor" && i + 1 < arguments.Length && arguments[i + 1] == "stdio"))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Runs the same command line as a daemon; returns 0 when it is ready, else its exit code.</summary>
    public static int Run(string[] arguments)
    {
        int* pipe = stackalloc int[2];
        if (LibcProcess.pipe2(pipe, LinuxConstants.O_CLOEXEC) < 0)
        {
            return ErrorReport.Print(new BlockMountException($"could not make a pipe: {ErrnoText.Describe(Libc.LastErrno)}"));
        }

        int pid = Spawn(arguments, pipe[1], out Errno errno);
        if (pid < 0)
        {
            return ErrorReport.Print(new BlockMountException(
                $"could not start the daemon: {ErrnoText.Describe(errno)}",
                "Use --foreground to run it in this process."));
        }

        _ = Libc.close(pipe[1]);
        return WaitUntilReady(pipe[0]) ? ExitCodes.Success : ExitCodeOf(pid);
    }

    private static bool WaitUntilReady(int fd)
    {
        byte ready;
        nint count;
        do
        {
            count = Libc.read(fd, &ready, 1);
        }
        while (count < 0 && Libc.LastErrno == Errno.EINTR);
        return count == 1;
    }

    private static int ExitCodeOf(int pid)
    {
        int status = 0;
        while (LibcProcess.waitpid(pid, &status, 0) < 0)
        {
            if (Libc.LastErrno != Errno.EINTR)
            {
                return ExitCodes.Failure;
            }
        }

        int signal = status & 0x7F;
        if (signal == 0)
        {
            int code = (status >> 8) & 0xFF;
            return code == 0 ? ExitCodes.Failure : code;
        }

        Console.Error.WriteLine($"blockmount: the daemon was ended by signal {signal} before it was ready");
        return ExitCodes.Failure;
    }

    private static int Spawn(string[] arguments, int readyFd, out Errno errno)
    {
        byte* actions = stackalloc byte[LibcProcess.SpawnStructureBytes];
        byte* attributes = stackalloc byte[LibcProcess.SpawnStructureBytes];
        _ = LibcProcess.posix_spawn_file_actions_init(actions);
        _ = LibcProcess.posix_spawn_file_actions_adddup2(actions, readyFd, ReadyFd);
        if (!arguments.Any(NamesDescriptor))
        {
            // A daemon that keeps the caller's pipes and lock files open holds up whoever waits for them.
            _ = LibcProcess.posix_spawn_file_actions_addclosefrom_np(actions, ReadyFd + 1);
        }

        _ = LibcProcess.posix_spawnattr_init(attributes);
        // A shell lets what it runs in the background ignore SIGINT, and .NET keeps to that; a daemon ends by it.
        const int SIGINT = 2;
        ulong* ended = stackalloc ulong[LibcProcess.SignalSetBytes / sizeof(ulong)];
        new Span<ulong>(ended, LibcProcess.SignalSetBytes / sizeof(ulong)).Clear();
        ended[0] = 1UL << (SIGINT - 1);
        _ = LibcProcess.posix_spawnattr_setsigdefault(attributes, ended);
        _ = LibcProcess.posix_spawnattr_setflags(attributes, LibcProcess.POSIX_SPAWN_SETSID | LibcProcess.POSIX_SPAWN_SETSIGDEF);
        byte** argumentBlock = Block([Environment.GetCommandLineArgs()[0], .. arguments]);
        byte** environmentBlock = Block(EnvironmentWithMarker());
        int pid;
        errno = (Errno)LibcProcess.posix_spawn(&pid, Environment.ProcessPath ?? "/proc/self/exe", actions, attributes, argumentBlock, environmentBlock);
        Free(argumentBlock);
        Free(environmentBlock);
        _ = LibcProcess.posix_spawnattr_destroy(attributes);
        _ = LibcProcess.posix_spawn_file_actions_destroy(actions);
        return errno == Errno.None ? pid : -1;
    }

    private static bool NamesDescriptor(string argument) =>
        argument.Contains("/dev/fd/", StringComparison.Ordinal) || argument.Contains("/self/fd/", StringComparison.Ordinal);

    private static List<string> EnvironmentWithMarker()
    {
        List<string> result = [$"{ReadyNotification.Variable}={ReadyFd}"];
        if (Environment.GetEnvironmentVariable(DiagnosticsVariable) is null)
        {
            // The runtime's debugger port: three threads, start-up time, and a socket in /tmp that a killed daemon leaves behind.
            result.Add($"{DiagnosticsVariable}=0");
        }

        foreach (DictionaryEntry variable in Environment.GetEnvironmentVariables())
        {
            result.Add($"{variable.Key}={variable.Value}");
        }

        return result;
    }

    // A null-terminated array of null-terminated UTF-8 strings, in one allocation each.
    private static byte** Block(List<string> strings)
    {
        byte** block = (byte**)NativeMemory.Alloc((nuint)(strings.Count + 1), (nuint)sizeof(byte*));
        for (int i = 0; i < strings.Count; i++)
        {
            int length = Encoding.UTF8.GetByteCount(strings[i]);
            byte* text = (byte*)NativeMemory.Alloc((nuint)length + 1);
            _ = Encoding.UTF8.GetBytes(strings[i], new Span<byte>(text, length));
            text[length] = 0;
            block[i] = text;
        }

        block[strings.Count] = null;
        return block;
    }

    private static void Free(byte** block)
    {
        for (byte** text = block; *text != null; text++)
        {
            NativeMemory.Free(*text);
        }

        NativeMemory.Free(block);
    }
}
