using BlockMount.Base;

namespace BlockMount.TestSupport.Images;

/// <summary>What lies below the image under test.</summary>
public enum BackingKind
{
    None,
    Raw,
    Qcow2,
}

/// <summary>Where the guest's data lives.</summary>
public enum DataFileKind
{
    /// <summary>In the image.</summary>
    None,

    /// <summary>In an external data file that means nothing without the image.</summary>
    Plain,

    /// <summary>In an external data file that is a raw image of the disk; without a backing file.</summary>
    Raw,
}

/// <summary>The shape of a chain: small, so that a few operations reach every kind of table growth.</summary>
public sealed record ImageGeometry
{
    /// <summary>log2 of the cluster size: 9 to 21, with <see cref="ExtendedL2"/> 14 to 21.</summary>
    public int ClusterBits { get; init; } = 9;

    /// <summary>log2 of the refcount width: 0 to 6; 4 in version 2.</summary>
    public int RefcountOrder { get; init; } = 4;

    /// <summary>2 or 3.</summary>
    public int Version { get; init; } = 3;

    /// <summary>Virtual size in bytes at the beginning, a multiple of 512.</summary>
    public long Size { get; init; } = 64 << 10;

    /// <summary>What the lowest layer of the backing chain is.</summary>
    public BackingKind Backing { get; init; }

    /// <summary>Images in the chain, the top included; 1 when there is no backing file.</summary>
    public int Depth { get; init; } = 1;

    /// <summary>Size of every backing image in bytes; it may differ from <see cref="Size"/> in both directions.</summary>
    public long BackingSize { get; init; }

    /// <summary>Two slices in each cache instead of plenty.</summary>
    public bool TinyCache { get; init; } = true;

    /// <summary>
    /// Memory of the index over the backing images, in bytes: mostly so little that it forgets all the time. It follows from the size, so that a seed still means
    /// the chain that it meant before there was an index.
    /// </summary>
    public long IndexBytes => ((Size >> 9) & 3) switch { 0 => 0, 1 => 512, 2 => 2048, _ => 1 << 20 };

    /// <summary>Freed clusters are punched out of the host file.</summary>
    public bool DiscardToHost { get; init; } = true;

    /// <summary>Refcounts are written lazily, under the dirty bit; needs version 3.</summary>
    public bool LazyRefcounts { get; init; }

    /// <summary>Discarded clusters keep their place in the file; needs version 3.</summary>
    public bool DiscardNoUnref { get; init; }

    /// <summary>L2 entries of 128 bits, with 32 subclusters in a cluster; needs version 3.</summary>
    public bool ExtendedL2 { get; init; }

    /// <summary>Where the data of the top image lives; needs version 3.</summary>
    public DataFileKind DataFile { get; init; }

    /// <summary>Bytes of an L2 entry.</summary>
    public int L2EntrySize => ExtendedL2 ? 16 : 8;

    /// <summary>Bytes in a cluster.</summary>
    public int ClusterSize => 1 << ClusterBits;

    /// <summary>A geometry of the matrix, chosen by <paramref name="random"/>.</summary>
    /// <param name="sizeMax">The largest virtual size, in bytes.</param>
    public static ImageGeometry Choose(Random random, int sizeMax)
    {
        int version = random.Next(4) == 0 ? 2 : 3;
        DataFileKind dataFile = version == 3 && random.Next(4) == 0 ? (DataFileKind)random.Next(1, 3) : DataFileKind.None;
        BackingKind backing = dataFile == DataFileKind.Raw ? BackingKind.None : (BackingKind)random.Next(3);
        long size = Sectors(random, sizeMax);
        bool extendedL2 = version == 3 && random.Next(4) == 0;
        return new ImageGeometry
        {
            Version = version,
            ExtendedL2 = extendedL2,
            DataFile = dataFile,
            ClusterBits = extendedL2 ? 14 : random.Next(9, 13),
            RefcountOrder = version == 2 ? 4 : random.Next(0, 7),
            Size = size,
            Backing = backing,
            Depth = backing == BackingKind.None ? 1 : random.Next(2, 5),
            BackingSize = backing == BackingKind.None ? 0 : random.Next(3) == 0 ? size : Sectors(random, sizeMax),
            TinyCache = random.Next(4) != 0,
            DiscardToHost = random.Next(2) == 0,
            LazyRefcounts = version == 3 && random.Next(6) == 0,
            DiscardNoUnref = version == 3 && random.Next(6) == 0,
        };
    }

    private static long Sectors(Random random, int max) => Alignment.Up(random.Next(512, max), 512);
}
