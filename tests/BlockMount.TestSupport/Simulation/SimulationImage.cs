using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;

namespace BlockMount.TestSupport.Simulation;

/// <summary>A small image with a history, from which every schedule starts. Immutable once prepared.</summary>
public sealed class SimulationImage
{
    private readonly TestChain _chain;
    private readonly byte[] _file;
    private readonly byte[]? _data;
    private readonly byte[] _content;

    private SimulationImage(string name, TestChain chain, bool warm, byte[] content)
    {
        Name = name;
        _chain = chain;
        Warm = warm;
        _file = chain.Top.ToArray();
        _data = chain.Data?.ToArray();
        _content = content;
    }

    /// <summary>For replay commands.</summary>
    public string Name { get; }

    /// <summary>The chain; its top has the history.</summary>
    public TestChain Chain => _chain;

    /// <summary>The whole disk is read before operations begin, so that tables are cached; otherwise every one must be loaded.</summary>
    public bool Warm { get; }

    /// <summary>What the disk reads.</summary>
    public ReadOnlySpan<byte> Content => _content;

    /// <summary>Makes the image.</summary>
    /// <param name="history">Operations that run one after the other before the image is closed.</param>
    public static async ValueTask<SimulationImage> PrepareAsync(string name, ImageGeometry geometry, bool warm, IEnumerable<GuestOperation> history)
    {
        TestChain chain = await TestChain.CreateAsync(geometry, seed: 11);
        TestDisk disk = await chain.OpenDiskAsync(chain.Top.Reopen());
        foreach (GuestOperation operation in history)
        {
            await disk.ApplyAsync(operation);
        }

        byte[] content = new byte[disk.Device.Size];
        await disk.Device.ReadAsync(0, content);
        await disk.DisposeAsync();
        return new SimulationImage(name, chain, warm, content);
    }

    /// <summary>A copy of the image's file.</summary>
    public MemoryFile CopyFile() => new("top", readOnly: false, _file);

    /// <summary>A copy of its data file; null if there is none.</summary>
    public MemoryFile? CopyDataFile() => _data is null ? null : new("data", readOnly: false, _data);
}
