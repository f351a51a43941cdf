using System.Globalization;

namespace BlockMount.Exports.Fuse;

/// <summary>
/// The kernel's side of a mount, in /sys/fs/fuse/connections. Closing the channels ends a connection only once nobody holds a copy of
/// them any more (a process that is between fork and exec does); aborting ends it at once. Opened while the mount is known to be ours,
/// because another mount may get the same number later. Any thread.
/// </summary>
internal sealed class FuseConnection : IDisposable
{
    private readonly FileStream? _abort;

    private FuseConnection(FileStream? abort) => _abort = abort;

    /// <summary>The connection of the file system with the minor device number <paramref name="minor"/>.</summary>
    /// <returns>One that cannot be aborted where the control file is not there or not permitted: it is a second line of defence.</returns>
    internal static FuseConnection Open(uint minor)
    {
        string path = string.Create(CultureInfo.InvariantCulture, $"/sys/fs/fuse/connections/{minor}/abort");
        try
        {
            return new FuseConnection(new FileStream(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0));
        }
        catch (Exception refused) when (refused is IOException or UnauthorizedAccessException)
        {
            return new FuseConnection(null);
        }
    }

    /// <summary>All requests that wait or come later fail, with ECONNABORTED or ENOTCONN. May be repeated.</summary>
    internal void Abort()
    {
        try
        {
            _abort?.Write("1"u8);
        }
        catch (IOException)
        {
            // The connection is gone already, which is what was asked for.
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _abort?.Dispose();
}
