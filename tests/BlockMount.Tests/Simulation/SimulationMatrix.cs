using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using BlockMount.TestSupport.Simulation;

namespace BlockMount.Tests.Simulation;

/// <summary>The images and the programs of the exhaustive simulation.</summary>
internal static class SimulationMatrix
{
    private const int Clusters = 16;

    /// <summary>The names of the images, in the order in which they are simulated.</summary>
    internal static readonly string[] s_images = ["warm", "cold", "backed", "lazy", "subclusters", "data"];

    /// <summary>
    /// An image of 16 clusters: 0 and 1 hold data, 2 zeros with a cluster behind them, 3 and 4 nothing, 5 and 6 data; inside the file one cluster is free.
    /// With subclusters 40 of them take the place of the 16 clusters, so that nearly all happens inside one cluster.
    /// </summary>
    internal static async ValueTask<SimulationImage> ImageAsync(string name)
    {
        ImageGeometry geometry = name switch
        {
            "warm" => new() { ClusterBits = 10 },
            "cold" => new() { ClusterBits = 9, RefcountOrder = 3 },
            "backed" => new() { ClusterBits = 10, Backing = BackingKind.Raw, Depth = 2, BackingSize = Clusters << 10 },
            "lazy" => new() { ClusterBits = 10, LazyRefcounts = true, DiscardNoUnref = true },
            "subclusters" => new() { ClusterBits = 14, ExtendedL2 = true, Size = 40 * 512 },
            "data" => new() { ClusterBits = 10, DataFile = DataFileKind.Plain },
            _ => throw new ArgumentException($"no image is called '{name}'"),
        };
        geometry = geometry.ExtendedL2 ? geometry : geometry with { Size = (long)Clusters << geometry.ClusterBits };
        int size = UnitOf(geometry);
        GuestOperation[] history =
        [
            On(GuestOperationKind.Write, 0, 3, size),
            On(GuestOperationKind.Write, 4, 3, size),
            On(GuestOperationKind.Zero, 2, 1, size),
            On(GuestOperationKind.Discard, 4, 1, size),
        ];
        return await SimulationImage.PrepareAsync(name, geometry, warm: name != "cold", history);
    }

    /// <summary>
    /// What a client may do, of so many at once. Together these reach every path of allocation, translation and freeing. Taking a snapshot has some fifty
    /// steps, for most of which it has the image for itself: it is left out of three at once and of failing calls, where random schedules have it.
    /// </summary>
    internal static IReadOnlyList<GuestProgram> Programs(SimulationImage image, int atOnce, bool faults = false) =>
        [.. AllPrograms(image).Where(program => (atOnce < 3 && !faults) || !program.Operations.Any(operation => operation.IsSnapshot))];

    private static GuestProgram[] AllPrograms(SimulationImage image)
    {
        ImageGeometry geometry = image.Chain.Geometry;
        int size = UnitOf(geometry);
        int wholeCluster = geometry.ClusterSize / size;
        GuestOperation flush = new(GuestOperationKind.Flush, 0, 0, 0);
        return
        [
            new("write-new", On(GuestOperationKind.Write, 3, 1, size)),
            new("write-far", On(GuestOperationKind.Write, 9, 1, size)),
            new("write-in-place", On(GuestOperationKind.Write, 0, 1, size)),
            new("write-across", On(GuestOperationKind.Write, 2, 2, size)),
            new("write-part", new GuestOperation(GuestOperationKind.Write, (4 * size) - 512, 512, 7)),
            new("write-reuse", On(GuestOperationKind.Write, 2, 1, size)),
            new("zero-keep", On(GuestOperationKind.Zero, 0, 2, size)),
            new("zero-unmap", On(GuestOperationKind.ZeroMayUnmap, 0, 3, size)),
            // With a data file, which cannot hold compressed clusters, a write like others.
            new("write-compressed", On(GuestOperationKind.WriteCompressed, 0, wholeCluster, size)),
            new("discard", On(GuestOperationKind.Discard, 0, Math.Max(4, wholeCluster), size)),
            new("trim", On(GuestOperationKind.Discard, 0, Math.Max(2, wholeCluster), size), flush),
            new("flush", flush),
            new("read", On(GuestOperationKind.Read, 0, 4, size)),
            new("grow", new GuestOperation(GuestOperationKind.Resize, (Clusters + 4) * size, 0, 0)),
            new("shrink", new GuestOperation(GuestOperationKind.Resize, 2 * size, 0, 0)),
            new("snapshot", new GuestOperation(GuestOperationKind.SnapshotCreate, 0, 0, 1)),
        ];
    }

    /// <summary>Every choice of <paramref name="count"/> programs, with repetition, in a fixed order.</summary>
    internal static IEnumerable<GuestProgram[]> Combinations(IReadOnlyList<GuestProgram> programs, int count, int first = 0)
    {
        if (count == 0)
        {
            yield return [];
            yield break;
        }

        for (int i = first; i < programs.Count; i++)
        {
            foreach (GuestProgram[] rest in Combinations(programs, count - 1, i))
            {
                yield return [Restamped(programs[i], count), .. rest];
            }
        }
    }

    /// <summary>The programs that a schedule names, as <see cref="Combinations"/> gives them.</summary>
    internal static GuestProgram[] Named(SimulationImage image, IReadOnlyList<string> names)
    {
        GuestProgram[] programs = AllPrograms(image);
        return [.. names.Select((name, i) => Restamped(programs.Single(program => program.Name == name), names.Count - i))];
    }

    // The same program twice must not write the same bytes.
    private static GuestProgram Restamped(GuestProgram program, int number) =>
        program with { Operations = [.. program.Operations.Select(operation => operation with { Stamp = operation.Stamp + (1000 * number) })] };

    private static int UnitOf(ImageGeometry geometry) => geometry.ExtendedL2 ? geometry.ClusterSize / 32 : geometry.ClusterSize;

    private static GuestOperation On(GuestOperationKind kind, int cluster, int count, int clusterSize) =>
        new(kind, (long)cluster * clusterSize, count * clusterSize, cluster + 1);
}
