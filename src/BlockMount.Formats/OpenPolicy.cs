namespace BlockMount.Formats;

/// <summary>
/// Decides about every file that an image names (USERS B7): plain local names only, no protocols, no special files, a bounded
/// depth. The one place where a reference becomes a path.
/// </summary>
public sealed class OpenPolicy
{
    /// <summary>Images in one chain, the active layer included.</summary>
    public int DepthMax { get; init; } = 200;
}
