using System.Runtime.InteropServices;

namespace BlockMount.Base.Interop;

/// <summary>
/// Ends a system call that blocks on another thread: a signal whose handler does nothing makes it return EINTR. Needed where a
/// descriptor offers no other way, as /dev/fuse.
/// </summary>
public static unsafe partial class LibcThread
{
    // The runtime uses SIGRTMIN (34) itself; glibc keeps 32 and 33.
    private const int WakeSignal = 41;

    private const string Library = "libc";

    // Guards the installation.
    private static readonly Lock s_gate = new();
    private static bool s_installed;

    /// <summary>Kernel id of the calling thread, for <see cref="Interrupt"/>.</summary>
    [LibraryImport(Library)]
    public static partial int gettid();

    /// <summary>
    /// Makes a blocking system call of the thread return EINTR. A call that begins just after is not affected, so repeat it until
    /// the thread has reacted. A thread that has ended is no error.
    /// </summary>
    public static void Interrupt(int threadId)
    {
        InstallHandler();
        // The only failure possible is ESRCH: the thread has ended.
        _ = tgkill(Environment.ProcessId, threadId, WakeSignal);
    }

    /// <summary>
    /// SCHED_BATCH for the calling thread: when it is woken, it does not push aside the thread that is running. Needs no
    /// privilege; where it is refused everything works as before.
    /// </summary>
    public static void PreferThroughput()
    {
        const int SCHED_BATCH = 3;
        int priority = 0;
        // Zero: the calling thread. struct sched_param is one int, and must be 0 here.
        _ = sched_setscheduler(0, SCHED_BATCH, &priority);
    }

    public static void SetPolicy(int policy)
    {
        int priority = 0;
        _ = sched_setscheduler(0, policy, &priority);
    }

    public static void Confine(int processor)
    {
        ulong* mask = stackalloc ulong[16];
        new Span<ulong>(mask, 16).Clear();
        mask[processor / 64] = 1UL << (processor % 64);
        _ = sched_setaffinity(0, 128, mask);
    }

    [LibraryImport(Library)]
    private static partial int sched_setaffinity(int thread, nuint size, ulong* mask);

    [LibraryImport(Library)]
    private static partial int sched_setscheduler(int thread, int policy, int* parameters);

    [LibraryImport(Library)]
    private static partial int tgkill(int process, int thread, int signal);

    [LibraryImport(Library)]
    private static partial int sigaction(int signal, SigAction* action, SigAction* old);

    private static void InstallHandler()
    {
        lock (s_gate)
        {
            if (s_installed)
            {
                return;
            }

            // Any function that is safe in a signal handler and without effect will do, as long as it is not managed code.
            nint libc = NativeLibrary.Load("libc.so.6");
            SigAction action = new() { Handler = NativeLibrary.GetExport(libc, "getppid") };
            if (sigaction(WakeSignal, &action, null) != 0)
            {
                throw new BlockIOException(Libc.LastErrno, "sigaction for the wake-up signal");
            }

            s_installed = true;
        }
    }
}

/// <summary>struct sigaction of glibc: handler, mask of 1024 bits, flags (0: no SA_RESTART), restorer; 152 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Size = 152)]
internal struct SigAction
{
    public nint Handler;
}
