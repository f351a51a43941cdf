using BlockMount.Base;

namespace BlockMount.Block.Graph;

/// <summary>The class of an error on the wire of QMP.</summary>
public enum GraphErrorClass
{
    /// <summary>Everything else.</summary>
    GenericError,

    /// <summary>No device of that name.</summary>
    DeviceNotFound,
}

/// <summary>A change of the graph that is not possible, in QEMU's words; nothing was changed.</summary>
public sealed class GraphException : BlockMountException
{
    /// <summary>Refused for a reason that the message gives.</summary>
    public GraphException(string message, string? hint = null, Exception? innerException = null)
        : base(message, hint, innerException)
    {
    }

    /// <summary>What QMP calls it.</summary>
    public GraphErrorClass ErrorClass { get; init; }
}
