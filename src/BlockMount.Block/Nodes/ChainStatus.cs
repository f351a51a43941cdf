using System.Diagnostics;
using BlockMount.Formats;

namespace BlockMount.Block.Nodes;

/// <summary>Block status over a chain: asks one image after the other. Stateless, any thread.</summary>
internal static class ChainStatus
{
    /// <summary>Status of the range's first bytes; see <see cref="Node.StatusAsync"/>.</summary>
    /// <param name="node">The uppermost node to ask; null if nothing is left to ask.</param>
    /// <param name="depth">Its number, the active layer being 1.</param>
    internal static async ValueTask<BlockStatus> FindAsync(Node? node, int depth, long offset, long length, MapPurpose purpose)
    {
        // A loop, because chains may be deep and stacks are not. Behind the end of a backing file there are zeros that nobody holds.
        for (; node is not null && offset < node.Size; depth++)
        {
            length = Math.Min(length, node.Size - offset);
            if (node is not FormatNode image)
            {
                BlockStatus below = await node.StatusAsync(offset, length, purpose);
                return below with { Depth = below.Depth == 0 ? 0 : below.Depth + depth - 1 };
            }

            Mapping mapping = await MapAsync(image.Driver, offset, length, purpose);
            if (mapping.Kind != MappingKind.Backing)
            {
                return StatusOf(mapping, depth);
            }

            length = mapping.Length;
            node = image.Backing;
        }

        return new BlockStatus(length, IsZero: true, IsAllocated: false, Depth: 0);
    }

    /// <summary>What a mapping that is not <see cref="MappingKind.Backing"/> says.</summary>
    internal static BlockStatus StatusOf(Mapping mapping, int depth) => mapping.Kind switch
    {
        MappingKind.Data or MappingKind.Compressed => new BlockStatus(mapping.Length, IsZero: false, IsAllocated: true, depth),
        MappingKind.Zero => new BlockStatus(mapping.Length, IsZero: true, IsAllocated: mapping.File is not null, depth),
        _ => throw new UnreachableException(),
    };

    /// <summary>One image's answer.</summary>
    internal static async ValueTask<Mapping> MapAsync(FormatDriver driver, long offset, long length, MapPurpose purpose)
    {
        using MapLease lease = driver.EnterLease();
        return await driver.MapAsync(offset, length, purpose);
    }
}
