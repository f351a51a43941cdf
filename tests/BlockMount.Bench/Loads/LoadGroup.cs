namespace BlockMount.Bench.Loads;

/// <summary>Loads whose runs are interleaved with each other, because their figures are compared with each other.</summary>
/// <param name="Loads">At least one.</param>
/// <param name="Peers">Also run on the native file, or on nbdkit; otherwise only servers of qcow2 take part.</param>
/// <param name="Supplementary">Has no goal: half the rounds will do.</param>
internal sealed record LoadGroup(IReadOnlyList<Load> Loads, bool Peers = true, bool Supplementary = false)
{
    /// <summary>Those who take part in a load of this group.</summary>
    public IEnumerable<Contender> Contenders(Load load, bool newerQemu)
    {
        yield return Contender.BlockMount;
        yield return Contender.Qemu;
        if (newerQemu)
        {
            yield return Contender.NewerQemu;
        }

        if (Peers && load.Disk.Shape != DiskShape.Chain)
        {
            yield return load.Access == Access.Nbd ? Contender.Nbdkit : Contender.NativeFile;
        }
    }
}
