namespace BlockMount.Storage;

/// <summary>
/// Opens a file once more in another way, so that no moment is unprotected (FEATURES K12): the locks of the new descriptor are tested through the old one, whose own locks
/// are in nobody's way there, and copied. Blocking.
/// </summary>
internal static class FileReopening
{
    /// <summary>Runs <paramref name="open"/>, which opens the same file again, without locks.</summary>
    /// <param name="fd">The descriptor in use; its locks are <paramref name="before"/>, before and afterwards.</param>
    /// <param name="after">The locks of the new descriptor.</param>
    /// <param name="open">Is given what takes the locks of the descriptor that it has opened.</param>
    /// <exception cref="Base.BlockMountException">Somebody else is in the way, or the file does not open; nothing was changed.</exception>
    internal static PosixFile Run(int fd, string path, LockProfile before, LockProfile after, Func<Action<int>, PosixFile> open)
    {
        LockProfile union = before.Union(after);
        FileLocking.Change(fd, path, before, union, tested: after);
        try
        {
            return open(newFd => FileLocking.Copy(newFd, path, after));
        }
        finally
        {
            FileLocking.Loosen(fd, union, before);
        }
    }
}
