namespace BlockMount.Base;

/// <summary>
/// A failure that is told to the user: the message says what failed and why, <see cref="Hint"/> what to do next.
/// </summary>
public class BlockMountException : Exception
{
    /// <param name="message">What failed and why, without a full stop, as "Could not open 'a.qcow2': Permission denied".</param>
    /// <param name="hint">What to do next, or null when there is nothing sensible to say.</param>
    public BlockMountException(string message, string? hint = null, Exception? innerException = null)
        : base(message, innerException)
    {
        Hint = hint;
    }

    /// <summary>What the user can do next; null when nothing sensible can be said.</summary>
    public string? Hint { get; }
}

/// <summary>
/// An I/O request failed. Expected outcomes (end of file, unsupported fast zero) are return values, not this.
/// Exports map <see cref="Errno"/> to their wire once, at the edge.
/// </summary>
public sealed class BlockIOException : BlockMountException
{
    /// <param name="errno">Why, as the kernel or the checking layer named it.</param>
    /// <param name="what">What was attempted, with the file and the numbers: "write of 4096 bytes at 8192 to 'a.qcow2'".</param>
    public BlockIOException(Errno errno, string what, string? hint = null, Exception? innerException = null)
        : base($"{what}: {ErrnoText.Describe(errno)}", hint, innerException)
    {
        Errno = errno;
    }

    /// <summary>The Linux error number.</summary>
    public Errno Errno { get; }
}
