using System.Globalization;

namespace BlockMount.Bench.Servers;

/// <summary>The folder of one run, removed with everything in it; nothing stays mounted or served.</summary>
internal sealed class BenchFolder : IAsyncDisposable
{
    private BenchFolder(string parent, string remark)
    {
        Remark = remark;
        FullPath = Directory.CreateDirectory(Path.Combine(parent, $"blockmount-bench-{Environment.ProcessId}")).FullName;
    }

    /// <summary>Absolute path.</summary>
    public string FullPath { get; }

    /// <summary>Where it is and what that means for the figures, for the document.</summary>
    public string Remark { get; }

    /// <summary>In the folder that BENCH_FOLDER names, else in /dev/shm if memory has room for all images, else in the temporary folder.</summary>
    public static BenchFolder Create(string? named)
    {
        const string memory = "/dev/shm";
        if (named is not null)
        {
            return new BenchFolder(named, $"{named} (BENCH_FOLDER; the storage there is part of the figures)");
        }

        long room = Directory.Exists(memory) ? Math.Min(new DriveInfo(memory).AvailableFreeSpace, AvailableMemory()) : 0;
        return room >= DiskImages.RoomBytes
            ? new BenchFolder(memory, $"{memory} (memory: storage costs nothing)")
            : new BenchFolder(
                Path.GetTempPath(),
                $"{Path.GetTempPath()} ({memory} has room for {room >> 30} GiB and {DiskImages.RoomBytes >> 30} are needed; the storage there is part of the figures)");
    }

    /// <summary>Ends what still serves from here, unmounts what is still mounted here, and removes all.</summary>
    public async ValueTask DisposeAsync()
    {
        await BlockMountServer.EndAllAsync();
        await Mounts.DetachAsync(FullPath);
        Directory.Delete(FullPath, recursive: true);
    }

    private static long AvailableMemory()
    {
        string line = File.ReadLines("/proc/meminfo").First(text => text.StartsWith("MemAvailable:", StringComparison.Ordinal));
        return long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) << 10;
    }
}
