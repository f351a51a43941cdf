using BlockMount.Base;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// Whether an image may still be written to. Whoever finds its metadata damaged throws what <see cref="Damaged"/> returns. The first such
/// finding in an image that is open for writing ends all writing at once, in memory; then the corrupt bit is set on disk (version 3), and
/// the owner of the image hears of it. Reads go on. In a read-only image the request fails and nothing else happens. Any thread.
/// </summary>
public sealed class ImageHealth
{
    private readonly StorageFile _file;
    private readonly IncompatibleFeatures? _features;
    private readonly bool _readOnly;
    private readonly Action<CorruptionReport>? _notify;

    // The first finding; written once, by a compare-exchange.
    private CorruptionReport? _first;

    // Marking and notification of the first finding. Written once, by its finder.
    private Task _recording = Task.CompletedTask;

    /// <param name="features">Where the corrupt bit is set; null in version 2 and for read-only images: it is known in memory only.</param>
    /// <param name="notify">Called once, from the thread of the finder or of the I/O that marked the image. Must not throw or wait.</param>
    public ImageHealth(StorageFile file, bool readOnly, IncompatibleFeatures? features, Action<CorruptionReport>? notify)
    {
        _file = file;
        _readOnly = readOnly;
        _features = features;
        _notify = notify;
    }

    /// <summary>True from the first finding on, for an image that was open for writing.</summary>
    public bool IsCorrupt => !_readOnly && Volatile.Read(ref _first) is not null;

    /// <summary>The first finding, or null.</summary>
    public CorruptionReport? First => Volatile.Read(ref _first);

    /// <summary>Completes when the first finding, if any, has been marked on disk and told. Later findings are not recorded.</summary>
    public Task Recorded => Volatile.Read(ref _recording);

    /// <summary>Takes note of damage and returns the error to throw (EIO).</summary>
    /// <param name="what">What was found, without the offsets.</param>
    /// <param name="hostOffset">Where, in bytes.</param>
    /// <param name="guestOffset">The byte of the disk that a request was about, if any.</param>
    public BlockIOException Damaged(string what, long hostOffset, long? guestOffset = null)
    {
        CorruptionReport report = new(_file.Name, what, hostOffset, guestOffset, IsFatal: !_readOnly);
        if (Interlocked.CompareExchange(ref _first, report, null) is null)
        {
            // Starts here and is awaited by the driver's disposal: a request that fails does not wait for the disk.
            Volatile.Write(ref _recording, RecordAsync(report));
        }

        return new BlockIOException(Errno.EIO, report.Message, report.Hint);
    }

    /// <summary>Refuses a change of an image that was found damaged.</summary>
    /// <param name="operation">For the message: "write", "flush".</param>
    /// <exception cref="BlockIOException">EIO, with the first finding.</exception>
    public void ThrowIfCorrupt(string operation)
    {
        if (IsCorrupt)
        {
            throw Refusal(operation);
        }
    }

    /// <summary>The header was written as a whole, and a mark that came meanwhile may have been overwritten: sets it again.</summary>
    internal async ValueTask MarkAgainIfCorruptAsync()
    {
        if (IsCorrupt && _features is not null)
        {
            await Recorded;
            await _features.ChangeAsync(set: FeatureBits.Corrupt, clear: 0);
        }
    }

    private BlockIOException Refusal(string operation) =>
        new(Errno.EIO, $"{operation} of '{_file.Name}' after this was found: {_first!.Message}", _first.Hint);

    private async Task RecordAsync(CorruptionReport report)
    {
        bool marked = false;
        if (_features is not null)
        {
            try
            {
                await _features.ChangeAsync(set: FeatureBits.Corrupt, clear: 0);
                marked = true;
            }
            catch (BlockIOException)
            {
                // Nothing is written to the image any more, marked or not; the report says that the header does not know.
            }
        }

        _notify?.Invoke(report with { IsMarkedOnDisk = marked });
    }
}
