using BlockMount.Base;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Raw;

namespace BlockMount.TestSupport.Images;

/// <summary>
/// A backing chain in memory of layers that have nothing in common: cluster size, size, kind of entries, data file, size of the caches. Each holds some data,
/// compressed data, zeros and discarded clusters. Nobody changes it once it is made. Deterministic from its random generator.
/// </summary>
public sealed class LayeredChain
{
    private const int OperationsPerLayer = 10;

    // From the base upwards.
    private readonly List<Layer> _layers = [];

    /// <summary>What the chain reads.</summary>
    public byte[] Content { get; private set; } = [];

    /// <summary>Images in it.</summary>
    public int Depth => _layers.Count;

    /// <summary>Builds a chain.</summary>
    /// <param name="sizeMax">The largest size of a layer, in bytes.</param>
    public static async ValueTask<LayeredChain> CreateAsync(Random random, int depth, int sizeMax)
    {
        LayeredChain chain = new();
        for (int i = 0; i < depth; i++)
        {
            Layer layer = i == 0 && random.Next(3) == 0 ? RawLayer(random, sizeMax) : EmptyLayer(random, sizeMax, i > 0);
            Node? below = await chain.OpenAsync();
            chain._layers.Add(layer);
            await using Node node = new FormatNode($"node{i}", $"layer{i}", await OpenDriverAsync(layer, readOnly: false), below);
            if (layer.Geometry is not null)
            {
                await FillAsync(node, random);
            }

            chain.Content = new byte[node.Size];
            await node.ReadAsync(0, chain.Content);
        }

        return chain;
    }

    /// <summary>Opens the chain for reading.</summary>
    /// <param name="wrap">Puts something around each driver, which is given with the layer's number, the base being 0; null for nothing.</param>
    /// <returns>The uppermost layer's node, owned by the caller; null for a chain without layers.</returns>
    public async ValueTask<Node?> OpenAsync(Func<int, FormatDriver, FormatDriver>? wrap = null)
    {
        Node? below = null;
        for (int i = 0; i < _layers.Count; i++)
        {
            FormatDriver driver = await OpenDriverAsync(_layers[i], readOnly: true);
            below = new FormatNode($"node{i}", $"layer{i}", wrap?.Invoke(i, driver) ?? driver, below);
        }

        return below;
    }

    /// <summary>Opens the chain below an active layer of its own, which is empty.</summary>
    /// <param name="geometry">Of the active layer; its size need not be that of the chain.</param>
    /// <param name="indexBytes">Memory of an index over the chain; 0 for none.</param>
    /// <inheritdoc cref="OpenAsync" path="/param[@name='wrap']"/>
    public async ValueTask<FormatNode> OpenUnderAsync(ImageGeometry geometry, long indexBytes, Func<int, FormatDriver, FormatDriver>? wrap = null)
    {
        Layer top = new(geometry, new MemoryFile("top", readOnly: false, EmptyImage.Create(geometry, "below", "qcow2")), null, geometry.TinyCache);
        FormatNode node = new("node", "top", await OpenDriverAsync(top, readOnly: false), await OpenAsync(wrap));
        node.IndexBelow(indexBytes);
        return node;
    }

    private static Layer RawLayer(Random random, int sizeMax)
    {
        // Raw files end at any byte.
        byte[] content = new byte[random.Next(1, sizeMax)];
        random.NextBytes(content.AsSpan(random.Next(content.Length)));
        return new Layer(null, new MemoryFile("raw", readOnly: false, content), null, TinyCache: false);
    }

    private static Layer EmptyLayer(Random random, int sizeMax, bool hasBacking)
    {
        bool extended = random.Next(4) == 0;
        DataFileKind data = random.Next(5) == 0 ? DataFileKind.Plain : DataFileKind.None;
        ImageGeometry geometry = new()
        {
            ClusterBits = extended ? 14 : random.Next(9, 14),
            ExtendedL2 = extended,
            Size = Alignment.Up(random.Next(512, sizeMax), 512),
            DataFile = data,
        };
        byte[] image = EmptyImage.Create(geometry, hasBacking ? "below" : null, hasBacking ? "qcow2" : null);
        return new Layer(geometry, new MemoryFile("image", readOnly: false, image), data == DataFileKind.None ? null : new MemoryFile("data"), random.Next(2) == 0);
    }

    private static async ValueTask FillAsync(Node node, Random random)
    {
        for (int i = 0; i < OperationsPerLayer; i++)
        {
            long offset = random.NextInt64(node.Size);
            long length = Math.Min(node.Size - offset, random.Next(1, (int)Math.Max(2, node.Size / 6)));
            switch (random.Next(6))
            {
                case 0:
                    await node.ZeroAsync(offset, length, ZeroFlags.MayUnmap);
                    break;
                case 1:
                    await node.ZeroAsync(offset, length, ZeroFlags.None);
                    break;
                case 2:
                    await node.DiscardAsync(offset, length);
                    break;
                case 3:
                    await WriteCompressedAsync(node, offset, random);
                    break;
                default:
                    byte[] data = new byte[length];
                    random.NextBytes(data);
                    await node.WriteAsync(offset, data);
                    break;
            }
        }
    }

    private static async ValueTask WriteCompressedAsync(Node node, long offset, Random random)
    {
        offset = Alignment.Down(offset, node.ClusterSize);
        byte[] data = new byte[Math.Min(node.ClusterSize * 2L, node.Size - offset)];
        data.AsSpan().Fill((byte)random.Next(1, 256));
        try
        {
            await node.WriteCompressedAsync(offset, data);
        }
        catch (BlockIOException refused) when (refused.Errno == Errno.EOPNOTSUPP)
        {
            // Images with a data file have no room for streams.
            await node.WriteAsync(offset, data);
        }
    }

    private static async ValueTask<FormatDriver> OpenDriverAsync(Layer layer, bool readOnly)
    {
        MemoryFile file = layer.File.Reopen(readOnly);
        return layer.Geometry is null
            ? new RawDriver(file)
            : await Qcow2Driver.OpenAsync(file, new Qcow2OpenOptions
            {
                ReadOnly = readOnly,
                DataFile = layer.Data?.Reopen(readOnly),
                CacheBytes = layer.TinyCache ? 1 : 1 << 20,
                CacheCleanInterval = TimeSpan.Zero,
            });
    }

    // Without a geometry it is raw.
    private sealed record Layer(ImageGeometry? Geometry, MemoryFile File, MemoryFile? Data, bool TinyCache);
}
