using BlockMount.Base;
using BlockMount.TestSupport.Model;

namespace BlockMount.TestSupport.Simulation;

/// <summary>What one client does, one operation after the other.</summary>
/// <param name="Name">For replay commands.</param>
public sealed record GuestProgram(string Name, params IReadOnlyList<GuestOperation> Operations)
{
    /// <summary>The program may change the size of the disk, so that requests of others may come to lie outside it.</summary>
    public bool Resizes => Operations.Any(operation => operation.Kind == GuestOperationKind.Resize);

    /// <summary>Some clusters are in the guest ranges of both operations.</summary>
    public static bool Meet(GuestOperation left, GuestOperation right, int clusterSize) =>
        left.HasRange
        && right.HasRange
        && Alignment.Down(left.Offset, clusterSize) < Alignment.Up(right.Offset + right.Length, clusterSize)
        && Alignment.Down(right.Offset, clusterSize) < Alignment.Up(left.Offset + left.Length, clusterSize);
}
