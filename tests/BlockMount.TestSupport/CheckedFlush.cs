using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace BlockMount.TestSupport;

/// <summary>
/// fsync(2) whose answer counts. The flushes of .NET's files take errors for success, so what they return says nothing of what is on disk:
/// no test and no product code may call them (FlushSourceTests).
/// </summary>
public static partial class CheckedFlush
{
    private const int EINTR = 4;

    /// <summary>Returns when everything written to <paramref name="file"/> before the call is on stable storage.</summary>
    /// <exception cref="IOException">fsync failed; <see cref="Exception.HResult"/> is its errno.</exception>
    public static void Run(SafeFileHandle file)
    {
        while (FSync(file) != 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            if (errno != EINTR)
            {
                throw new IOException($"fsync: {Marshal.GetPInvokeErrorMessage(errno)} (errno {errno})", errno);
            }
        }
    }

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int FSync(SafeFileHandle file);
}
