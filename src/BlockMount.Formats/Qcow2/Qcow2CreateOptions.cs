using System.Numerics;
using System.Text;
using BlockMount.Base;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2;

/// <summary>Codecs by their number in the header.</summary>
public enum Qcow2Compression : byte
{
    Zlib = 0,
    Zstd = 1,
}

/// <summary>What a new qcow2 image is to be. Immutable; the defaults are QEMU's.</summary>
public sealed record Qcow2CreateOptions
{
    private const int SectorSize = 512;

    /// <summary>Virtual size in bytes; rounded up to whole sectors of 512 bytes.</summary>
    public required long Size { get; init; }

    /// <summary>2 (compat=0.10) or 3 (compat=1.1).</summary>
    public int Version { get; init; } = 3;

    /// <summary>Bytes in a cluster: a power of two from 512 to 2 MiB.</summary>
    public long ClusterSize { get; init; } = 65536;

    /// <summary>Width of a refcount: a power of two from 1 to 64.</summary>
    public long RefcountBits { get; init; } = 16;

    /// <summary>Declares that refcounts may be written lazily.</summary>
    public bool LazyRefcounts { get; init; }

    /// <summary>Written as given; the file is not looked at here.</summary>
    public BackingReference? Backing { get; init; }

    public Qcow2Compression Compression { get; init; }

    public Preallocation Preallocation { get; init; }

    /// <summary>L2 entries of 128 bits, with 32 subclusters each. Preallocated clusters then do not hide the backing file.</summary>
    public bool ExtendedL2 { get; init; }

    /// <summary>The external file for guest data, written as given; null keeps guest data in the image.</summary>
    public string? DataFile { get; init; }

    /// <summary>The data file alone is a valid raw image. All tables exist from the beginning, whatever <see cref="Preallocation"/> says.</summary>
    public bool DataFileRaw { get; init; }

    /// <summary><see cref="Size"/> in whole sectors.</summary>
    public long RoundedSize => Alignment.Up(Size, SectorSize);

    /// <summary>The new image has all its L2 tables.</summary>
    internal bool HasTables => Preallocation != Preallocation.Off || DataFileRaw;

    /// <summary>log2 of the size of an L2 entry in bytes.</summary>
    internal int L2EntryBits => ExtendedL2 ? 4 : 3;

    internal int ClusterBits => BitOperations.TrailingZeroCount(ClusterSize);

    internal int RefcountOrder => BitOperations.TrailingZeroCount(RefcountBits);

    /// <summary>Checks everything that can be known without a file.</summary>
    /// <exception cref="ImageFormatException">Names the option, its value and the limit.</exception>
    public void Validate()
    {
        Require(Version is 2 or 3, $"Version {Version} is not possible: use 2 (compat=0.10) or 3 (compat=1.1)");
        Require(
            BitOperations.IsPow2(ClusterSize) && ClusterBits is >= Qcow2Limits.ClusterBitsMin and <= Qcow2Limits.ClusterBitsMax,
            $"Cluster size {ClusterSize} is not possible: it must be a power of two between 512 and 2048k");
        Require(
            BitOperations.IsPow2(RefcountBits) && RefcountOrder <= Qcow2Limits.RefcountOrderMax,
            $"Refcount width {RefcountBits} is not possible: it must be a power of two and may not exceed 64 bits");
        Require(Version == 3 || RefcountBits == 16, "Refcount widths other than 16 bits need compat=1.1");
        Require(Version == 3 || !LazyRefcounts, "Lazy refcounts need compat=1.1");
        Require(Version == 3 || Compression == Qcow2Compression.Zlib, "Compression types other than zlib need compat=1.1");
        Require(
            Backing is null || Preallocation == Preallocation.Off || ExtendedL2,
            "A backing file and preallocation cannot be used together unless extended_l2 is on: preallocated clusters would hide the backing file");
        Require(Version == 3 || !ExtendedL2, "Extended L2 entries need compat=1.1");
        Require(
            !ExtendedL2 || ClusterBits >= Qcow2Limits.ExtendedL2ClusterBitsMin,
            $"Extended L2 entries need clusters of at least {1 << Qcow2Limits.ExtendedL2ClusterBitsMin} bytes, not {ClusterSize}");
        ValidateDataFile();
        ValidateSize();
        ValidateBacking();
    }

    private void ValidateDataFile()
    {
        Require(DataFile is not null || !DataFileRaw, "data_file_raw needs a data_file");
        Require(Version == 3 || DataFile is null, "External data files need compat=1.1");
        Require(Backing is null || !DataFileRaw, "A backing file and data_file_raw cannot be used together: the data file could not be read alone");
        Require(DataFile is not "", "The data file name is empty");
        Require(DataFile is null || !DataFile.Contains('\0', StringComparison.Ordinal), "The data file name contains a NUL character");
        // There a guest cluster's host offset is its guest offset.
        Require(
            DataFile is null || Size <= Qcow2Limits.HostOffsetEnd,
            $"The image size {Size} is too large for an external data file (at most {ByteSize.Format(Qcow2Limits.HostOffsetEnd)})");
    }

    private void ValidateSize()
    {
        Require(Size is >= 0 and <= long.MaxValue - SectorSize, $"Invalid image size {Size}: must be between 0 and {long.MaxValue - SectorSize} bytes");
        // One L1 entry covers an L2 table of clusters, and there are at most 32 MiB of them.
        long sizeMax = (long)Int128.Min(
            (Int128)(Qcow2Limits.L1TableBytesMax / 8) * (ClusterSize >> L2EntryBits) * ClusterSize,
            long.MaxValue - SectorSize);
        Require(
            Size <= sizeMax,
            $"The image size {Size} is too large for clusters of {ClusterSize} bytes (at most {ByteSize.Format(sizeMax)})",
            "Use larger clusters: -o cluster_size=2M");
    }

    private void ValidateBacking()
    {
        if (Backing is null)
        {
            return;
        }

        int nameBytes = Encoding.UTF8.GetByteCount(Backing.FileName);
        Require(nameBytes > 0, "The backing file name is empty");
        Require(!Backing.FileName.Contains('\0', StringComparison.Ordinal), "The backing file name contains a NUL character");
        Require(
            nameBytes <= Qcow2Limits.BackingFileNameBytesMax,
            $"The backing file name has {nameBytes} bytes, more than {Qcow2Limits.BackingFileNameBytesMax}",
            "Use a shorter or a relative path");
    }

    private static void Require(bool condition, string message, string? hint = null)
    {
        if (!condition)
        {
            throw new ImageFormatException(message, hint);
        }
    }
}
