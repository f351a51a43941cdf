using BlockMount.Base;

namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>
/// The bounds of each header field (CVE-2014-0142 to -0147 and -0223 were such bounds missing). Pure; every refusal names the
/// field, its value and the limit.
/// </summary>
internal static class Qcow2HeaderValidator
{
    public static ImageFormatException Refuse(string name, string why) => new($"Could not open '{name}': {why}");

    public static ImageFormatException Truncated(string name, int have, int need) => new(
        $"Could not open '{name}': the file ends inside the qcow2 header ({have} bytes, at least {need} are needed)",
        "The file is cut short: copy it again from its source");

    /// <param name="available">Bytes of the first cluster that the file has.</param>
    public static void CheckHeaderLength(in RawHeader raw, int clusterSize, int available, string name)
    {
        if (raw.Version == 2)
        {
            return;
        }

        if (available < Qcow2HeaderFields.Version3LengthMin)
        {
            throw Truncated(name, available, Qcow2HeaderFields.Version3LengthMin);
        }

        if (raw.HeaderLength < Qcow2HeaderFields.Version3LengthMin || raw.HeaderLength > clusterSize)
        {
            throw Refuse(name, $"header_length is {raw.HeaderLength}, outside {Qcow2HeaderFields.Version3LengthMin} to the cluster size {clusterSize}");
        }

        if (raw.HeaderLength > available)
        {
            throw Truncated(name, available, (int)raw.HeaderLength);
        }
    }

    public static void CheckFields(in RawHeader raw, long fileLength, string name)
    {
        CheckSmallFields(raw, name);
        CheckCompressionType(raw, name);
        CheckL1(raw, fileLength, name);
        CheckRefcountTable(raw, fileLength, name);
        CheckSnapshots(raw, fileLength, name);
        CheckDisjoint(raw, name);
    }

    /// <param name="available">Bytes of the first cluster that the file has.</param>
    public static void CheckBackingName(in RawHeader raw, int available, string name)
    {
        int clusterSize = 1 << (int)raw.ClusterBits;
        if (raw.BackingFileOffset < raw.HeaderLength || raw.BackingFileOffset > (ulong)clusterSize)
        {
            throw Refuse(name, $"backing_file_offset is {raw.BackingFileOffset}, outside the first cluster behind the header ({raw.HeaderLength} to {clusterSize})");
        }

        long max = Math.Min(Qcow2Limits.BackingFileNameBytesMax, clusterSize - (long)raw.BackingFileOffset);
        if (raw.BackingFileSize > max)
        {
            throw Refuse(name, $"backing_file_size is {raw.BackingFileSize}, more than {max} (the name lies in the first cluster and has at most {Qcow2Limits.BackingFileNameBytesMax} bytes)");
        }

        if ((long)raw.BackingFileOffset + raw.BackingFileSize > available)
        {
            throw Truncated(name, available, (int)(raw.BackingFileOffset + raw.BackingFileSize));
        }
    }

    private static void CheckSmallFields(in RawHeader raw, string name)
    {
        if (raw.CryptMethod > 2)
        {
            throw Refuse(name, $"crypt_method is {raw.CryptMethod}, known are 0 (none), 1 (AES) and 2 (LUKS)");
        }

        if (raw.RefcountOrder > Qcow2Limits.RefcountOrderMax)
        {
            throw Refuse(name, $"refcount_order is {raw.RefcountOrder}, more than {Qcow2Limits.RefcountOrderMax} (64 bits)");
        }

        if (raw.Size > long.MaxValue)
        {
            throw Refuse(name, $"the virtual size {raw.Size} exceeds the limit of {long.MaxValue} bytes");
        }

        if ((raw.IncompatibleFeatures & FeatureBits.ExtendedL2) != 0 && raw.ClusterBits < Qcow2Limits.ExtendedL2ClusterBitsMin)
        {
            throw Refuse(name, $"cluster_bits is {raw.ClusterBits}, extended L2 entries need at least {Qcow2Limits.ExtendedL2ClusterBitsMin}");
        }
    }

    private static void CheckCompressionType(in RawHeader raw, string name)
    {
        bool declared = (raw.IncompatibleFeatures & FeatureBits.CompressionType) != 0;
        if (raw.CompressionType > 1)
        {
            throw Refuse(name, $"compression_type is {raw.CompressionType}, known are 0 (zlib) and 1 (zstd)");
        }

        if (declared != (raw.CompressionType != 0))
        {
            throw Refuse(name, $"compression_type is {raw.CompressionType}, but the incompatible feature bit 3 is {(declared ? "set" : "not set")}");
        }
    }

    private static void CheckL1(in RawHeader raw, long fileLength, string name)
    {
        const uint EntriesMax = Qcow2Limits.L1TableBytesMax / 8;
        if (raw.L1Size > EntriesMax)
        {
            throw Refuse(name, $"l1_size is {raw.L1Size}, more than {EntriesMax} entries (32 MiB)");
        }

        int entryBits = (raw.IncompatibleFeatures & FeatureBits.ExtendedL2) != 0 ? 4 : 3;
        int l2Bits = (int)raw.ClusterBits - entryBits;
        int shift = (int)raw.ClusterBits + l2Bits;
        ulong needed = (raw.Size >> shift) + ((raw.Size & ((1UL << shift) - 1)) != 0 ? 1UL : 0UL);
        if (needed > raw.L1Size)
        {
            throw Refuse(name, $"l1_size is {raw.L1Size}, too small: the virtual size {raw.Size} needs {needed} entries");
        }

        // An empty disk has no L1 table at all.
        if (raw.L1Size > 0)
        {
            CheckTable(raw, "L1 table", raw.L1TableOffset, raw.L1Size * 8L, fileLength, name);
        }
    }

    private static void CheckRefcountTable(in RawHeader raw, long fileLength, string name)
    {
        uint clustersMax = (uint)Qcow2Limits.RefcountTableBytesMax >> (int)raw.ClusterBits;
        if (raw.RefcountTableClusters == 0 || raw.RefcountTableClusters > clustersMax)
        {
            throw Refuse(name, $"refcount_table_clusters is {raw.RefcountTableClusters}, outside 1 to {clustersMax} (8 MiB)");
        }

        long length = (long)raw.RefcountTableClusters << (int)raw.ClusterBits;
        CheckTable(raw, "refcount table", raw.RefcountTableOffset, length, fileLength, name);
    }

    private static void CheckSnapshots(in RawHeader raw, long fileLength, string name)
    {
        if (raw.SnapshotCount > Qcow2Limits.SnapshotCountMax)
        {
            throw Refuse(name, $"nb_snapshots is {raw.SnapshotCount}, more than {Qcow2Limits.SnapshotCountMax}");
        }

        if (raw.SnapshotCount > 0)
        {
            long lengthMin = (long)raw.SnapshotCount * Qcow2Limits.SnapshotEntryBytesMin;
            CheckTable(raw, "snapshot table", raw.SnapshotsOffset, lengthMin, fileLength, name);
        }
    }

    // A table that the file does not hold completely would read as zeros, that is as a disk that lost its data. The last
    // cluster of a file may be cut where the table ends.
    private static void CheckTable(in RawHeader raw, string table, ulong offset, long length, long fileLength, string name)
    {
        long clusterSize = 1L << (int)raw.ClusterBits;
        if (offset >= Qcow2Limits.HostOffsetEnd || (long)offset > Qcow2Limits.HostOffsetEnd - length)
        {
            throw Refuse(name, $"the {table} offset {offset} exceeds the limit of {Qcow2Limits.HostOffsetEnd - length}");
        }

        if (!Alignment.IsAligned((long)offset, clusterSize))
        {
            throw Refuse(name, $"the {table} offset {offset} is not a multiple of the cluster size {clusterSize}");
        }

        if ((long)offset < clusterSize)
        {
            throw Refuse(name, $"the {table} offset {offset} lies inside the header");
        }

        long end = (long)offset + length;
        if (end > Alignment.Up(fileLength, clusterSize))
        {
            throw new ImageFormatException(
                $"Could not open '{name}': the {table} at {offset} with {length} bytes ends past the end of the file ({fileLength} bytes)",
                "The file is cut short or damaged: copy it again from its source, or look at it with 'blockmount check'");
        }
    }

    private static void CheckDisjoint(in RawHeader raw, string name)
    {
        long l1Start = (long)raw.L1TableOffset;
        long l1End = l1Start + (raw.L1Size * 8L);
        long refcountStart = (long)raw.RefcountTableOffset;
        long refcountEnd = refcountStart + ((long)raw.RefcountTableClusters << (int)raw.ClusterBits);
        if (raw.L1Size > 0 && l1Start < refcountEnd && refcountStart < l1End)
        {
            throw Refuse(name, $"the L1 table at {l1Start} and the refcount table at {refcountStart} overlap");
        }
    }
}
