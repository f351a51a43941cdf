using System.Buffers.Text;
using System.Runtime.InteropServices;

namespace BlockMount.Base.Interop;

/// <summary>
/// What the kernel lets one do with threads and .NET does not: end a system call that blocks on another thread (a signal whose handler does nothing makes
/// it return EINTR; needed where a descriptor offers no other way, as /dev/fuse), choose class and processor.
/// </summary>
public static unsafe partial class LibcThread
{
    // The runtime uses SIGRTMIN (34) itself; glibc keeps 32 and 33.
    private const int WakeSignal = 41;

    private const int SCHED_OTHER = 0;
    private const int SCHED_BATCH = 3;
    private const int SCHED_IDLE = 5;

    // 1024 processors: what glibc's cpu_set_t holds.
    private const int MaskWords = 16;

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
        // Zero: the calling thread.
        _ = SetClass(0, SCHED_BATCH);
    }

    /// <summary>Undoes <see cref="PreferThroughput"/> for the calling thread: SCHED_OTHER.</summary>
    public static void PreferLatency() => _ = SetClass(0, SCHED_OTHER);

    /// <summary>
    /// Nanoseconds that the calling thread has waited for a processor since it began (proc(5), schedstat); 0 where the kernel does not tell.
    /// </summary>
    public static long RunDelay()
    {
        byte* text = stackalloc byte[128];
        int fd = Libc.open("/proc/thread-self/schedstat", LinuxConstants.O_RDONLY | LinuxConstants.O_CLOEXEC, 0);
        if (fd < 0)
        {
            return 0;
        }

        nint length = Libc.read(fd, text, 128);
        _ = Libc.close(fd);
        ReadOnlySpan<byte> stat = new(text, (int)Math.Max(length, 0));
        int second = stat.IndexOf((byte)' ') + 1;
        return second > 0 && Utf8Parser.TryParse(stat[second..], out long delay, out _) ? delay : 0;
    }

    /// <summary>
    /// Lets a thread of this process run on one processor only, and there only when nobody else wants to (SCHED_IDLE).
    /// </summary>
    /// <returns>False if that is not permitted; nothing has changed then.</returns>
    public static bool TryConfine(int threadId, int processor)
    {
        ulong* mask = stackalloc ulong[MaskWords];
        new Span<ulong>(mask, MaskWords).Clear();
        mask[processor / 64] = 1UL << (processor % 64);
        if (sched_setaffinity(threadId, MaskWords * sizeof(ulong), mask) != 0)
        {
            return false;
        }

        if (SetClass(threadId, SCHED_IDLE))
        {
            return true;
        }

        Unconfine(threadId);
        return false;
    }

    /// <summary>Undoes <see cref="TryConfine"/>: SCHED_BATCH, on all processors that the process may use.</summary>
    public static void Unconfine(int threadId)
    {
        _ = SetClass(threadId, SCHED_BATCH);
        ulong* mask = stackalloc ulong[MaskWords];
        new Span<ulong>(mask, MaskWords).Clear();
        // The main thread is never confined.
        if (sched_getaffinity(Environment.ProcessId, MaskWords * sizeof(ulong), mask) > 0)
        {
            _ = sched_setaffinity(threadId, MaskWords * sizeof(ulong), mask);
        }
    }

    /// <summary>
    /// True if a thread in class SCHED_IDLE can be given another class again: sched(7) wants CAP_SYS_NICE or RLIMIT_NICE for that. Tries it with a
    /// thread made for it.
    /// </summary>
    public static bool CanLeaveIdleClass()
    {
        bool can = false;
        Thread probe = new(() => can = SetClass(0, SCHED_IDLE) && SetClass(0, SCHED_BATCH));
        probe.Start();
        probe.Join();
        return can;
    }

    /// <summary>True if the thread of this process wants to run now (proc(5): state R). False if it has ended.</summary>
    public static bool IsRunnable(int threadId)
    {
        byte* text = stackalloc byte[512];
        int fd = Libc.open($"/proc/self/task/{threadId}/stat", LinuxConstants.O_RDONLY | LinuxConstants.O_CLOEXEC, 0);
        if (fd < 0)
        {
            return false;
        }

        nint length = Libc.read(fd, text, 512);
        _ = Libc.close(fd);
        ReadOnlySpan<byte> stat = new(text, (int)Math.Max(length, 0));
        // The name before it may contain anything, also parentheses.
        int end = stat.LastIndexOf((byte)')');
        return end >= 0 && end + 2 < stat.Length && stat[end + 2] == (byte)'R';
    }

    private static bool SetClass(int threadId, int policy)
    {
        // struct sched_param is one int, and must be 0 for these classes.
        int priority = 0;
        return sched_setscheduler(threadId, policy, &priority) == 0;
    }

    [LibraryImport(Library)]
    private static partial int sched_setaffinity(int thread, nuint size, ulong* mask);

    [LibraryImport(Library)]
    private static partial int sched_getaffinity(int thread, nuint size, ulong* mask);

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
