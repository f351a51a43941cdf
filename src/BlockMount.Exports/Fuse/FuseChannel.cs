namespace BlockMount.Exports.Fuse;

/// <summary>
/// One way to the kernel: requests come in, replies go out. A reply must leave through the channel that its request came from.
/// One thread receives; any thread may send. The seam at which tests drive the protocol without a mount.
/// </summary>
internal abstract class FuseChannel : IDisposable
{
    /// <summary>The result of <see cref="Receive"/> when no more will come because the file system is unmounted.</summary>
    internal const int Unmounted = 0;

    /// <summary>The result of <see cref="Receive"/> when the wait was cut short: look whether to stop, and try again.</summary>
    internal const int Interrupted = -1;

    /// <summary>Waits for a frame and puts it at <see cref="FuseRequest.Frame"/>.</summary>
    /// <returns>Its length in bytes, <see cref="Unmounted"/> or <see cref="Interrupted"/>.</returns>
    /// <exception cref="Base.BlockIOException">The channel broke.</exception>
    internal abstract int Receive(FuseRequest request);

    /// <summary>
    /// Sends the first <paramref name="length"/> bytes of <see cref="FuseRequest.ReplyFrame"/>. A request that nobody waits for any
    /// more is no error.
    /// </summary>
    /// <exception cref="Base.BlockIOException">The kernel refused the reply.</exception>
    internal abstract void Send(FuseRequest request, int length);

    /// <summary>Closes the channel. The last one of a mount to close cuts the kernel's side off.</summary>
    public abstract void Dispose();
}
