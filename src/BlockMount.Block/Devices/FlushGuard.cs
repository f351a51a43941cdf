using BlockMount.Base;
using BlockMount.Block.Nodes;

namespace BlockMount.Block.Devices;

/// <summary>Flushes a disk, and remembers when that failed: the kernel may have dropped what was not written, so every later flush fails (RELIABILITY D23). Any thread.</summary>
internal sealed class FlushGuard
{
    private volatile BlockIOException? _failure;

    /// <summary>Everything completed before the call is on stable storage afterwards.</summary>
    /// <param name="name">The disk, for the message.</param>
    /// <exception cref="BlockIOException">This flush failed, or an earlier one.</exception>
    internal async ValueTask FlushAsync(Node root, string name)
    {
        if (_failure is { } earlier)
        {
            throw new BlockIOException(earlier.Errno, $"flush of '{name}' after an earlier flush failed", earlier.Hint, earlier);
        }

        try
        {
            await root.FlushAsync();
        }
        catch (BlockIOException error)
        {
            _failure = error;
            throw;
        }
    }

    /// <summary>Another disk from now on.</summary>
    internal void Forget() => _failure = null;
}
