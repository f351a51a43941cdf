namespace BlockMount.Control.Schema;

/// <summary>What there is to know of a QMP command before it is carried out. Immutable.</summary>
/// <param name="Name">As on the wire.</param>
/// <param name="Arguments">A <see cref="StructType"/> or <see cref="UnionType"/>.</param>
/// <param name="Returns">Null: an empty object.</param>
/// <param name="Help">One or two sentences for the reference.</param>
public sealed record CommandDescription(string Name, SchemaType Arguments, SchemaType? Returns, string Help)
{
    /// <summary>May be carried out beside other commands ("exec-oob").</summary>
    public bool AllowOob { get; init; }

    /// <summary>Still works, and something else is to be preferred.</summary>
    public bool Deprecated { get; init; }
}

/// <summary>What there is to know of an event. Immutable.</summary>
/// <param name="Data">Null: the event has no data.</param>
public sealed record EventDescription(string Name, StructType? Data, string Help);
