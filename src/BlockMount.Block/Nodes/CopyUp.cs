using BlockMount.Base;
using BlockMount.Block.Graph;
using BlockMount.Formats;

namespace BlockMount.Block.Nodes;

/// <summary>Finds what an image shows through from below and brings it up; see <see cref="Node.CopyUpAsync"/>. Stateless, any thread.</summary>
internal static class CopyUp
{
    internal static async ValueTask RunAsync(FormatNode node, CopyOnWrite copying, long offset, long length, Node? bottom)
    {
        int depthMax = bottom is null ? int.MaxValue : DepthOf(bottom, node);
        // Exact depths are asked for only where they matter.
        MapPurpose purpose = bottom is null ? MapPurpose.Transfer : MapPurpose.Status;
        int unit = node.Driver.ZeroUnit;
        long start = Alignment.Down(offset, unit);
        long end = Math.Min(Alignment.Up(offset + length, unit), node.Size);
        while (start < end)
        {
            BlockStatus status = await node.StatusAsync(start, end - start, purpose);
            long next = Math.Min(Alignment.Up(start + status.Length, unit), end);
            if (status is { IsZero: false, Depth: > 1 } && status.Depth <= depthMax)
            {
                await copying.CopyUpAsync(start, next - start);
            }

            start = next;
        }
    }

    // The top layer is number 1; 0 if the node is not in the chain.
    private static int DepthOf(Node bottom, Node top)
    {
        int depth = 0;
        foreach (Node node in GraphWalk.Chain(top))
        {
            depth += node.IsFilter ? 0 : 1;
            if (node == bottom)
            {
                return depth;
            }
        }

        return 0;
    }
}
