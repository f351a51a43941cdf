using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Raw;
using BlockMount.Storage;
using BlockMount.TestSupport.Mutants;

namespace BlockMount.TestSupport.Images;

/// <summary>A chain of images in memory: the backing images are filled and stay as they are, the top is empty at first. Deterministic from its seed.</summary>
public sealed class TestChain
{
    private const long PlentyOfCache = 1 << 20;

    // From the base upwards, without the top.
    private readonly List<(MemoryFile File, BackingKind Format)> _backing = [];

    private TestChain(ImageGeometry geometry)
    {
        Geometry = geometry;
    }

    /// <summary>The shape.</summary>
    public ImageGeometry Geometry { get; }

    /// <summary>The top image as it was created; open the chain with handles that <see cref="MemoryFile.Reopen"/> gives.</summary>
    public MemoryFile Top { get; private set; } = null!;

    /// <summary>The data file of the top image as it was created; null where the data lives in the image.</summary>
    public MemoryFile? Data { get; private set; }

    /// <summary>What the disk reads at the beginning: <see cref="ImageGeometry.Size"/> bytes.</summary>
    public byte[] InitialContent { get; private set; } = [];

    /// <summary>Builds the chain.</summary>
    public static async ValueTask<TestChain> CreateAsync(ImageGeometry geometry, int seed)
    {
        TestChain chain = new(geometry);
        Random random = new(seed);
        byte[] content = [];
        for (int layer = 1; layer < geometry.Depth; layer++)
        {
            bool raw = layer == 1 && geometry.Backing == BackingKind.Raw;
            content = await chain.AddBackingAsync(raw, content, random);
        }

        chain.InitialContent = new byte[geometry.Size];
        content.AsSpan(0, (int)Math.Min(content.Length, geometry.Size)).CopyTo(chain.InitialContent);
        chain.Top = new MemoryFile("top", readOnly: false, chain.EmptyLayer(geometry));
        chain.Data = geometry.DataFile switch
        {
            DataFileKind.None => null,
            DataFileKind.Plain => new MemoryFile(EmptyImage.DataFileName),
            _ => new MemoryFile(EmptyImage.DataFileName, readOnly: false, new byte[geometry.Size]),
        };
        return chain;
    }

    /// <summary>A chain of one image that a tool made.</summary>
    /// <param name="geometry">The image's shape: the cluster size and the virtual size must be right.</param>
    /// <param name="content">What the disk reads.</param>
    public static TestChain Of(MemoryFile image, ImageGeometry geometry, byte[] content) => new(geometry) { Top = image, InitialContent = content };

    /// <summary>A chain on the same backing images with another top, which reads as <paramref name="content"/>.</summary>
    public TestChain WithTop(MemoryFile image, byte[] content, MemoryFile? data = null)
    {
        TestChain chain = new(Geometry) { Top = image, InitialContent = content, Data = data };
        chain._backing.AddRange(_backing);
        return chain;
    }

    /// <summary>Opens the chain for writing with <paramref name="top"/> as the top's file, which the device owns; if this fails it is closed, too.</summary>
    /// <param name="mutant">A mistake for the top image; null for none.</param>
    /// <param name="data">The top's data file, which the device owns too; null for <see cref="Data"/>.</param>
    public async ValueTask<BlockDevice> OpenAsync(StorageFile top, Mutant? mutant = null, StorageFile? data = null) =>
        (await OpenDiskAsync(top, mutant, data)).Device;

    /// <summary>The same, with the driver of the top image at hand.</summary>
    public async ValueTask<TestDisk> OpenDiskAsync(StorageFile top, Mutant? mutant = null, StorageFile? data = null)
    {
        top = mutant?.Wrap(top) ?? top;
        data ??= Data?.Reopen();
        Node? below = null;
        try
        {
            below = await OpenBackingAsync();
            FormatDriver driver = await OpenDriverAsync(top, readOnly: false, data);
            driver = mutant?.Wrap(driver) ?? driver;
            FormatNode node = new(top.Name, top.Name, driver, below);
            node.IndexBelow(Geometry.IndexBytes);
            return new TestDisk(new BlockDevice("test", node, readOnly: false), driver, canCompress: data is null);
        }
        catch
        {
            // Closing may fail, too: the rest is closed all the same.
            await using (below)
            await using (data)
            {
                await top.DisposeAsync();
            }

            throw;
        }
    }

    /// <summary>What an internal snapshot of <paramref name="top"/>, which is closed afterwards, holds.</summary>
    public async ValueTask<byte[]> ReadSnapshotAsync(StorageFile top, string name)
    {
        Node? below = await OpenBackingAsync();
        FormatNode node = new(top.Name, top.Name, await OpenDriverAsync(top, readOnly: true, snapshot: name), below);
        await using BlockDevice device = new("snapshot", node, readOnly: true);
        byte[] content = new byte[device.Size];
        await device.ReadAsync(0, content);
        return content;
    }

    /// <summary>
    /// Writes the chain into host files, for tools to open: "base0", "base1", ..., the top as <paramref name="topName"/>, and its data file as
    /// "data", as they are now.
    /// </summary>
    public async ValueTask SaveAsync(ScratchFolder folder, string topName, ReadOnlyMemory<byte> top)
    {
        if (Data is not null)
        {
            await QemuImg.SaveAsync(folder[EmptyImage.DataFileName], Data.ToArray());
        }

        for (int i = 0; i < _backing.Count; i++)
        {
            await File.WriteAllBytesAsync(folder[BackingName(i)], _backing[i].File.ToArray());
        }

        await QemuImg.SaveAsync(folder[topName], top);
    }

    private static string BackingName(int index) => $"base{index}";

    private byte[] EmptyLayer(ImageGeometry geometry) => _backing.Count == 0
        ? EmptyImage.Create(geometry)
        : EmptyImage.Create(geometry, BackingName(_backing.Count - 1), _backing[^1].Format == BackingKind.Raw ? "raw" : "qcow2");

    private async ValueTask<byte[]> AddBackingAsync(bool raw, byte[] below, Random random)
    {
        byte[] content = new byte[Geometry.BackingSize];
        below.AsSpan(0, Math.Min(below.Length, content.Length)).CopyTo(content);
        if (raw)
        {
            for (int i = 0; i < 4; i++)
            {
                (int offset, int length) = Range(content.Length, random);
                random.NextBytes(content.AsSpan(offset, length));
            }

            _backing.Add((new MemoryFile(BackingName(_backing.Count), readOnly: false, content), BackingKind.Raw));
            return content;
        }

        MemoryFile file = new(BackingName(_backing.Count), readOnly: false, EmptyLayer(Geometry with { Size = Geometry.BackingSize, DataFile = DataFileKind.None }));
        BlockDevice device = await OpenAsync(file);
        for (int i = 0; i < 4; i++)
        {
            (int offset, int length) = Range(content.Length, random);
            random.NextBytes(content.AsSpan(offset, length));
            await device.WriteAsync(offset, content.AsMemory(offset, length));
        }

        await device.DisposeAsync();
        _backing.Add((file, BackingKind.Qcow2));
        return content;
    }

    private static (int Offset, int Length) Range(int size, Random random)
    {
        int offset = random.Next(size);
        return (offset, random.Next(1, Math.Max(2, Math.Min(size - offset, size / 3))));
    }

    private async ValueTask<Node?> OpenBackingAsync()
    {
        Node? below = null;
        foreach ((MemoryFile file, BackingKind format) in _backing)
        {
            MemoryFile handle = file.Reopen(readOnly: true);
            below = format == BackingKind.Raw
                ? new FormatNode(file.Name, file.Name, new RawDriver(handle), below)
                : new FormatNode(file.Name, file.Name, await OpenDriverAsync(handle, readOnly: true), below);
        }

        return below;
    }

    private async ValueTask<FormatDriver> OpenDriverAsync(StorageFile file, bool readOnly, StorageFile? data = null, string? snapshot = null)
    {
        Qcow2OpenOptions options = new()
        {
            ReadOnly = readOnly,
            Snapshot = snapshot,
            CacheBytes = Geometry.TinyCache ? 1 : PlentyOfCache,
            DiscardToHost = Geometry.DiscardToHost,
            DataFile = data,
            DiscardNoUnref = Geometry.DiscardNoUnref,
            LazyRefcounts = Geometry.LazyRefcounts ? true : null,
        };
        return await Qcow2Driver.OpenAsync(file, options);
    }
}
