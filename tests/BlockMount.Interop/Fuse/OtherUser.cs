using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using BlockMount.TestSupport;

namespace BlockMount.Interop.Fuse;

/// <summary>
/// Runs a piece of a test as the user nobody, on a thread that never becomes root again: Linux keeps credentials for each thread, and what
/// the thread starts inherits them.
/// Needs root.
/// </summary>
internal static partial class OtherUser
{
    internal const int UserId = 65534;

    // x86-64; libc's own setresuid would change all threads.
    private const long SYS_setresuid = 117;
    private const long SYS_setresgid = 119;

    /// <summary>Why it does not work here, or null.</summary>
    internal static string? Obstacle => RuntimeInformation.ProcessArchitecture == Architecture.X64 ? null : "needs the system call numbers of x86-64";

    /// <summary>Runs <paramref name="action"/> on a thread of its own and returns, or throws, what it does.</summary>
    internal static T Run<T>(Func<T> action)
    {
        T result = default!;
        Exception? failure = null;
        Thread thread = new(() =>
        {
            try
            {
                Check(syscall(SYS_setresgid, UserId, UserId, UserId));
                Check(syscall(SYS_setresuid, UserId, UserId, UserId));
                result = action();
            }
            catch (Exception error)
            {
                failure = error;
            }
        });
        thread.Start();
        thread.Join();
        return failure is null ? result : throw new InvalidOperationException(failure.Message, failure);
    }

    private static void Check(long result, [CallerArgumentExpression(nameof(result))] string call = "")
    {
        if (result != 0)
        {
            throw new InvalidOperationException($"{call}: errno {Marshal.GetLastSystemError()}");
        }
    }

    [LibraryImport("libc")]
    private static partial long syscall(long number, long first, long second, long third);
}

/// <summary>A fact in which the user nobody mounts: needs root to become nobody, fusermount3, and a /dev/fuse that everybody may open.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class NobodyMountsFactAttribute : RequiresFactAttribute
{
    public NobodyMountsFactAttribute()
        : base(Needs.Fuse | Needs.Root, "fusermount3")
    {
        Skip ??= OtherUser.Obstacle;
        const UnixFileMode everybody = UnixFileMode.OtherRead | UnixFileMode.OtherWrite;
        if (Skip is null && (File.GetUnixFileMode("/dev/fuse") & everybody) != everybody)
        {
            Skip = "/dev/fuse is not open to everybody (chmod 666)";
        }
    }
}
