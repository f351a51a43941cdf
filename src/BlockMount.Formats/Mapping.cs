using BlockMount.Storage;

namespace BlockMount.Formats;

/// <summary>Where guest bytes come from.</summary>
public enum MappingKind
{
    /// <summary>Bytes of a host file, at a host offset.</summary>
    Data,

    /// <summary>Zeros, said by this image (the backing file does not show through).</summary>
    Zero,

    /// <summary>This image holds nothing here: the backing file shows through, or zeros where there is none.</summary>
    Backing,

    /// <summary>Part of a compressed cluster: ask <see cref="FormatDriver.ReadCompressedAsync"/>.</summary>
    Compressed,
}

/// <summary>Why a mapping is asked for: exact allocation knowledge may cost a system call that a transfer does not need.</summary>
public enum MapPurpose
{
    /// <summary>Bytes are to be read: holes of the host file may be reported as data.</summary>
    Transfer,

    /// <summary>Block status: holes of the host file are to be told apart where that is possible.</summary>
    Status,
}

/// <summary>
/// One answer of <see cref="FormatDriver.MapAsync"/>: the kind of the guest range that starts at the asked offset, valid while
/// the caller holds a lease.
/// </summary>
/// <param name="Kind">Where the bytes come from.</param>
/// <param name="Length">Guest bytes covered: at least 1, at most what was asked for.</param>
/// <param name="File">For Data and Compressed: the host file; for Zero with a preallocated host cluster: that file; otherwise null.</param>
/// <param name="FileOffset">For Data (and preallocated Zero): host offset of the first byte. For Compressed: host offset of the compressed stream.</param>
/// <param name="CompressedLength">For Compressed: bytes from FileOffset that are certain to contain the stream.</param>
public readonly record struct Mapping(MappingKind Kind, long Length, StorageFile? File = null, long FileOffset = 0, int CompressedLength = 0);
