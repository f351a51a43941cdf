using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace BlockMount.Interop.Fuse;

/// <summary>
/// Runs a piece of a test as the user nobody: Linux keeps credentials for each thread, and what the thread starts inherits them.
/// Needs root.
/// </summary>
internal static partial class OtherUser
{
    internal const int UserId = 65534;

    // x86-64; libc's own setresuid would change all threads.
    private const long SYS_setresuid = 117;
    private const long SYS_setresgid = 119;

    /// <summary>Why it does not work here, or null.</summary>
    internal static string? Obstacle => RuntimeInformation.ProcessArchitecture == Architecture.X64 ? null : "system call numbers of x86-64";

    /// <summary>Runs <paramref name="action"/> on a thread of its own and returns, or throws, what it does.</summary>
    internal static T Run<T>(Func<T> action)
    {
        T result = default!;
        Exception? failure = null;
        Thread thread = new(() =>
        {
            try
            {
                Check(syscall(SYS_setresgid, UserId, UserId, 0));
                Check(syscall(SYS_setresuid, UserId, UserId, 0));
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
