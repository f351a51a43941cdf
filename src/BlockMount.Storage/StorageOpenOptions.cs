namespace BlockMount.Storage;

/// <summary>How a host file is opened. Immutable; see FEATURES K1-K17 for the locks.</summary>
public sealed record StorageOpenOptions
{
    /// <summary>Open without the right to write.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>QEMU's cache.direct: O_DIRECT, bypassing the host's page cache.</summary>
    public bool Direct { get; init; }

    /// <summary>QEMU's cache.no-flush: flushes are not passed to the host. A power cut may cost everything.</summary>
    public bool NoFlush { get; init; }

    /// <summary>Who does the transfers that have to wait.</summary>
    public IoEngine Engine { get; init; }

    /// <summary>Take QEMU-compatible image locks; false only for inspection that tolerates a live image (K10 apart).</summary>
    public bool Lock { get; init; } = true;

    /// <summary>Admit other writers (bytes 201 and 203 are not taken), as QEMU's share-rw.</summary>
    public bool ShareWrite { get; init; }

    /// <summary>Read-only inspection beside a writer: only byte 100 is taken (qemu-img -U, K10).</summary>
    public bool ForceShare { get; init; }
}

/// <summary>Opens host files by path. The composition root passes the POSIX one, tests pass files in memory.</summary>
public interface IStorageOpener
{
    /// <summary>Opens an existing file. The caller owns the result and disposes it.</summary>
    /// <exception cref="Base.BlockMountException">The file cannot be opened or locked; the message names the path, the reason and the holder.</exception>
    public ValueTask<StorageFile> OpenAsync(string path, StorageOpenOptions options);

    /// <summary>
    /// Opens a file that is open once more, in another way and under other locks, with no moment in which neither protects it. Both are the caller's afterwards;
    /// closing either leaves the other as it is.
    /// </summary>
    /// <exception cref="Base.BlockMountException">As for <see cref="OpenAsync"/>; <paramref name="file"/> and its locks are as before.</exception>
    public ValueTask<StorageFile> ReopenAsync(StorageFile file, StorageOpenOptions options) => OpenAsync(file.Name, options);
}
