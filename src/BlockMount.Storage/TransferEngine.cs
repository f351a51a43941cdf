using BlockMount.Base;
using BlockMount.Base.Async;

namespace BlockMount.Storage;

/// <summary>
/// Does the transfers that have to wait for the disk. Any thread starts one; what awaits it resumes on the thread pool. The caller has entered
/// the gate and its buffer is borrowed until the task has completed; the engine leaves the gate just before that.
/// </summary>
internal interface ITransferEngine
{
    /// <summary>Begins to fill the buffer; zeros past the end of the file.</summary>
    public ValueTask StartRead(ITransferTarget target, RequestGate gate, long offset, Memory<byte> buffer);

    /// <summary>Begins to write the whole buffer.</summary>
    public ValueTask StartWrite(ITransferTarget target, RequestGate gate, long offset, ReadOnlyMemory<byte> buffer);
}

/// <summary>
/// The transfers of one file as an engine sees them: as blocking calls for an I/O thread, and, where one system call on a descriptor does it, as
/// what io_uring has to know. Thread-safe.
/// </summary>
internal interface ITransferTarget
{
    /// <summary>The file's descriptor for plain transfers.</summary>
    public int Descriptor { get; }

    /// <summary>A read that ended before a multiple of so many bytes has met the end of the file.</summary>
    public int ReadUnit { get; }

    /// <summary>Fills the buffer; zeros past the end of the file. Blocks.</summary>
    public void BlockingRead(long offset, Span<byte> buffer);

    /// <summary>Writes the whole buffer. Blocks.</summary>
    public void BlockingWrite(long offset, ReadOnlySpan<byte> buffer);

    /// <summary>The kernel reads straight into the buffer: nothing is bounced.</summary>
    public bool IsPlainRead(long offset, ReadOnlySpan<byte> buffer);

    /// <summary>The kernel writes straight from the buffer, inside the file: nothing is bounced, read before or locked.</summary>
    public bool IsPlainWrite(long offset, ReadOnlySpan<byte> buffer);

    /// <summary>A plain write that reached up to <paramref name="end"/> is done.</summary>
    public void EndPlainWrite(long end);

    /// <summary>The error of a plain transfer, with file and numbers of what was left of it.</summary>
    public BlockIOException PlainFailure(Errno errno, bool isWrite, long offset, int length);
}

/// <summary>Every transfer is a blocking call on one of <see cref="IoThreads"/>. Stateless.</summary>
internal sealed class ThreadEngine : ITransferEngine
{
    private ThreadEngine()
    {
    }

    /// <summary>The one instance that is needed.</summary>
    public static ThreadEngine Instance { get; } = new();

    /// <inheritdoc/>
    public ValueTask StartRead(ITransferTarget target, RequestGate gate, long offset, Memory<byte> buffer) =>
        TransferRequest.StartRead(target, gate, offset, buffer);

    /// <inheritdoc/>
    public ValueTask StartWrite(ITransferTarget target, RequestGate gate, long offset, ReadOnlyMemory<byte> buffer) =>
        TransferRequest.StartWrite(target, gate, offset, buffer);
}
