using System.Runtime.ExceptionServices;
using BlockMount.Block.Nodes;

namespace BlockMount.Block.Graph;

/// <summary>
/// Changes that happen all or not at all. Each part does its work at once (<em>prepare</em>), so that the next one sees it, and leaves word how to undo it. When all have succeeded the parts
/// are <em>committed</em>, which cannot fail; otherwise they are undone (<em>abort</em>), the last one first. Then everything is <em>cleaned</em> up: devices drained for a part stay drained until then.
/// Control loop only; used once.
/// </summary>
public sealed class GraphTransaction
{
    private readonly Stack<Func<ValueTask>> _undo = new();
    private readonly Stack<Func<ValueTask>> _commit = new();
    private readonly Queue<Func<ValueTask>> _clean = new();
    private readonly Stack<DrainedSection> _sections = new();

    private GraphTransaction(ControlScope scope) => Scope = scope;

    /// <summary>Where the changes happen.</summary>
    public ControlScope Scope { get; }

    /// <summary>The graph that is changed.</summary>
    public NodeGraph Graph => Scope.Graph;

    /// <summary>Runs the parts in their order, as one change.</summary>
    /// <exception cref="Exception">What the first part that failed has thrown; the graph is as it was.</exception>
    public static async ValueTask RunAsync(ControlScope scope, params Func<GraphTransaction, ValueTask>[] parts)
    {
        GraphTransaction transaction = new(scope);
        await scope.LockAsync();
        try
        {
            await transaction.RunPartsAsync(parts);
        }
        finally
        {
            await transaction.RunCleanAsync();
            scope.Unlock();
        }
    }

    /// <summary>Drains the devices above <paramref name="nodes"/>, until the transaction ends.</summary>
    public async ValueTask DrainAsync(params Node[] nodes) => _sections.Push(await DrainedSection.BeginAsync(Scope, nodes));

    /// <summary>What to do if a later part fails.</summary>
    public void OnAbort(Func<ValueTask> undo) => _undo.Push(undo);

    /// <summary>What to do when all parts have succeeded, still drained and in reverse order. A failure is reported and changes nothing.</summary>
    public void OnCommit(Func<ValueTask> commit) => _commit.Push(commit);

    /// <summary>What to do in the end, when requests are let in again, whatever became of the change; in the order of the calls.</summary>
    public void OnClean(Func<ValueTask> clean) => _clean.Enqueue(clean);

    /// <summary>Makes one node a user of another one.</summary>
    internal void Attach(Node parent, string role, Node child)
    {
        NodeEdge edge = NodeEdge.Attach(parent, role, child);
        OnAbort(() =>
        {
            edge.Detach();
            return ValueTask.CompletedTask;
        });
    }

    /// <summary>Ends a use. The child is closed when the transaction has ended, if nobody else uses it.</summary>
    internal void Detach(NodeEdge edge)
    {
        edge.Detach();
        OnAbort(() =>
        {
            edge.Reattach();
            return ValueTask.CompletedTask;
        });
        CloseUnusedAfterwards(edge.Child);
    }

    /// <summary>Lets an edge lead to another node. The one of before is closed when the transaction has ended, if nobody else uses it.</summary>
    internal void Move(NodeEdge edge, Node child)
    {
        Node before = edge.Child;
        edge.MoveTo(child);
        OnAbort(() =>
        {
            edge.MoveTo(before);
            return ValueTask.CompletedTask;
        });
        CloseUnusedAfterwards(before);
    }

    /// <summary>A new node, that nobody uses yet, becomes known; it is closed if the transaction fails, or if nobody uses it in the end.</summary>
    internal void Adopt(Node node)
    {
        // First, because it is undone last: a node whose name is refused is closed as well.
        OnAbort(node.CloseIfUnusedAsync);
        Graph.Adopt(Scope, node);
        CloseUnusedAfterwards(node);
    }

    private void CloseUnusedAfterwards(Node node) => OnClean(() => node.Graph is null ? ValueTask.CompletedTask : node.CloseIfUnusedAsync());

    private async ValueTask RunPartsAsync(Func<GraphTransaction, ValueTask>[] parts)
    {
        try
        {
            foreach (Func<GraphTransaction, ValueTask> part in parts)
            {
                await part(this);
            }

            await WriterArrival.RunAsync(this);
            NodePermissions.Refresh(Graph.Nodes);
        }
        catch (Exception error)
        {
            try
            {
                await RunAllAsync(_undo);
                NodePermissions.Restore(Graph.Nodes);
            }
            finally
            {
                EndSections();
            }

            ExceptionDispatchInfo.Throw(error);
        }

        await RunAllAsync(_commit);
        EndSections();
    }

    private void EndSections()
    {
        while (_sections.TryPop(out DrainedSection? section))
        {
            section.Dispose();
        }
    }

    // Nobody can do anything about a failure here: what is left behind (a file, a lock) is reported.
    private async ValueTask RunAllAsync(Stack<Func<ValueTask>> steps)
    {
        while (steps.TryPop(out Func<ValueTask>? step))
        {
            await RunStepAsync(step);
        }
    }

    private async ValueTask RunCleanAsync()
    {
        while (_clean.TryDequeue(out Func<ValueTask>? step))
        {
            await RunStepAsync(step);
        }
    }

    private async ValueTask RunStepAsync(Func<ValueTask> step)
    {
        try
        {
            await step();
        }
        catch (Exception error)
        {
            Graph.OnLeftover?.Invoke(error);
        }
    }
}
