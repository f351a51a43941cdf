namespace BlockMount.Block.Graph;

/// <summary>What a user of a node may do with it. Numbered as QEMU's, and as the bytes of image locks are (FEATURES K2).</summary>
[Flags]
public enum NodePermission
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>Read data that makes sense as a whole.</summary>
    ConsistentRead = 1,

    /// <summary>Change what is read.</summary>
    Write = 2,

    /// <summary>Write what is read already.</summary>
    WriteUnchanged = 4,

    /// <summary>Change the size.</summary>
    Resize = 8,

    /// <summary>All of it.</summary>
    All = ConsistentRead | Write | WriteUnchanged | Resize,
}

/// <summary>The permissions of one edge.</summary>
/// <param name="Held">What the user may do.</param>
/// <param name="Shared">What every other user may do.</param>
public readonly record struct EdgePermissions(NodePermission Held, NodePermission Shared)
{
    /// <summary>A user that does nothing and bears everything.</summary>
    public static EdgePermissions Nothing { get; } = new(NodePermission.None, NodePermission.All);

    /// <summary>What a device asks of its root: its size stays, others may write, as QEMU's exports (FEATURES 1.6, note 1).</summary>
    public static EdgePermissions ForDevice(bool writable) => new(
        NodePermission.ConsistentRead | (writable ? NodePermission.Write : NodePermission.None), NodePermission.All & ~NodePermission.Resize);
}
