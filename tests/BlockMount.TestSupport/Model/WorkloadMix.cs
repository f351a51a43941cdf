using System.Collections;

namespace BlockMount.TestSupport.Model;

/// <summary>How often each kind of operation comes in a workload: weights, in relation to their sum. A kind that is not named does not come.</summary>
public sealed class WorkloadMix : IEnumerable<KeyValuePair<GuestOperationKind, int>>
{
    private readonly List<KeyValuePair<GuestOperationKind, int>> _weights = [];
    private int _sum;

    /// <summary>Adds a kind; for collection initializers.</summary>
    public void Add(GuestOperationKind kind, int weight)
    {
        _weights.Add(new(kind, weight));
        _sum += weight;
    }

    /// <summary>This mix without some kinds: for images that cannot do them.</summary>
    public WorkloadMix Without(params ReadOnlySpan<GuestOperationKind> kinds)
    {
        WorkloadMix less = [];
        foreach ((GuestOperationKind kind, int weight) in _weights)
        {
            if (!kinds.Contains(kind))
            {
                less.Add(kind, weight);
            }
        }

        return less;
    }

    /// <inheritdoc/>
    public IEnumerator<KeyValuePair<GuestOperationKind, int>> GetEnumerator() => _weights.GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    internal GuestOperationKind Pick(Random random)
    {
        int pick = random.Next(_sum);
        int index = 0;
        while (pick >= _weights[index].Value)
        {
            pick -= _weights[index++].Value;
        }

        return _weights[index].Key;
    }
}
