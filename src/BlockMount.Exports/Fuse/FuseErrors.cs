using BlockMount.Base;

namespace BlockMount.Exports.Fuse;

/// <summary>What a failure is called on the FUSE wire. NBD has names of its own.</summary>
internal static class FuseErrors
{
    // The kernel refuses a reply whose error is not below this.
    private const int ErrnoLimit = 512;

    /// <summary>The errno of a failed device request; EIO for everything that has none.</summary>
    internal static Errno Of(Exception failure) =>
        failure is BlockIOException { Errno: > Errno.None and < (Errno)ErrnoLimit } known ? known.Errno : Errno.EIO;
}
