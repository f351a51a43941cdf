namespace BlockMount.Control.Schema;

/// <summary>
/// A type of QMP arguments, results and events, as in QEMU's QAPI. Types may contain themselves, so a description is completed by its reader
/// (<see cref="SchemaText"/>) and does not change afterwards.
/// </summary>
public abstract class SchemaType(string name)
{
    /// <summary>Name for people; on the wire types have no names.</summary>
    public string Name { get; } = name;

    /// <summary>What it stands for, for the reference; may be empty.</summary>
    public string Help { get; internal set; } = "";
}

/// <summary>What a built-in type takes.</summary>
public enum BuiltinKind
{
    /// <summary>A string.</summary>
    Text,

    /// <summary>An integer between two limits.</summary>
    Integer,

    /// <summary>An integer without a sign, of 64 bits; QEMU lets negative numbers wrap, and so do we.</summary>
    Unsigned,

    /// <summary>The same, which may have a suffix in the key=value form.</summary>
    Size,

    /// <summary>Any number.</summary>
    Number,

    /// <summary>true or false.</summary>
    Boolean,

    /// <summary>null.</summary>
    Null,

    /// <summary>Any value.</summary>
    Any,
}

/// <summary>A type that every schema has.</summary>
public sealed class BuiltinType : SchemaType
{
    private BuiltinType(string name, BuiltinKind kind, string wireName, string jsonType, long minimum = long.MinValue, long maximum = long.MaxValue)
        : base(name)
    {
        Kind = kind;
        WireName = wireName;
        JsonType = jsonType;
        Minimum = minimum;
        Maximum = maximum;
    }

    /// <summary>All of them.</summary>
    public static IReadOnlyList<BuiltinType> All { get; } =
    [
        new("str", BuiltinKind.Text, "str", "string"),
        new("int", BuiltinKind.Integer, "int", "int"),
        new("int32", BuiltinKind.Integer, "int", "int", int.MinValue, int.MaxValue),
        new("uint8", BuiltinKind.Integer, "int", "int", 0, byte.MaxValue),
        new("uint16", BuiltinKind.Integer, "int", "int", 0, ushort.MaxValue),
        new("uint32", BuiltinKind.Integer, "int", "int", 0, uint.MaxValue),
        new("uint64", BuiltinKind.Unsigned, "int", "int"),
        new("size", BuiltinKind.Size, "int", "int"),
        new("number", BuiltinKind.Number, "number", "number"),
        new("bool", BuiltinKind.Boolean, "bool", "boolean"),
        new("null", BuiltinKind.Null, "null", "null"),
        new("any", BuiltinKind.Any, "any", "value"),
    ];

    /// <summary>What it takes.</summary>
    public BuiltinKind Kind { get; }

    /// <summary>Its name in query-qmp-schema, which knows one type of integers.</summary>
    public string WireName { get; }

    /// <summary>Its type in JSON there.</summary>
    public string JsonType { get; }

    /// <summary>Smallest value of <see cref="BuiltinKind.Integer"/>.</summary>
    public long Minimum { get; }

    /// <summary>Largest value of <see cref="BuiltinKind.Integer"/>.</summary>
    public long Maximum { get; }
}

/// <summary>One of several words.</summary>
public sealed class EnumType(string name, IReadOnlyList<string> values) : SchemaType(name)
{
    /// <summary>The words.</summary>
    public IReadOnlyList<string> Values { get; } = values;
}

/// <summary>A list.</summary>
public sealed class ListType(SchemaType element) : SchemaType($"[{element.Name}]")
{
    /// <summary>What its items are.</summary>
    public SchemaType Element { get; } = element;
}

/// <summary>A member of an object.</summary>
/// <param name="Optional">May be left out.</param>
/// <param name="Features">"deprecated", "unstable" and the like.</param>
/// <param name="Help">What it means, units included.</param>
public sealed record SchemaMember(string Name, SchemaType Type, bool Optional, IReadOnlyList<string> Features, string Help);

/// <summary>An object.</summary>
public sealed class StructType(string name) : SchemaType(name)
{
    /// <summary>The object without members.</summary>
    public static readonly StructType Empty = new("q_empty");

    /// <summary>The members, those of a base first.</summary>
    public IReadOnlyList<SchemaMember> Members { get; internal set; } = [];

    /// <summary>What clients may look for.</summary>
    public IReadOnlyList<string> Features { get; internal set; } = [];
}

/// <summary>An object whose further members depend on one of them.</summary>
public sealed class UnionType(string name, string discriminator) : SchemaType(name)
{
    /// <summary>Name of the member that decides; its type is an <see cref="EnumType"/>.</summary>
    public string Discriminator { get; } = discriminator;

    /// <summary>Members that it always has, the discriminator among them.</summary>
    public IReadOnlyList<SchemaMember> Common { get; internal set; } = [];

    /// <summary>By value of the discriminator; a value that is missing adds nothing.</summary>
    public IReadOnlyDictionary<string, StructType> Variants { get; internal set; } = new Dictionary<string, StructType>();

    /// <summary>The words that the discriminator may be.</summary>
    public EnumType Kinds => (EnumType)Common.Single(member => member.Name == Discriminator).Type;
}

/// <summary>One of several types that differ in their type in JSON.</summary>
public sealed class AlternateType(string name) : SchemaType(name)
{
    /// <summary>The types.</summary>
    public IReadOnlyList<SchemaType> Choices { get; internal set; } = [];
}

/// <summary>What there is to know of a QMP command before it is carried out.</summary>
/// <param name="Name">As on the wire.</param>
/// <param name="Arguments">A <see cref="StructType"/> or <see cref="UnionType"/>.</param>
/// <param name="Returns">Null: an empty object.</param>
/// <param name="Features">"deprecated", "unstable" and the like.</param>
/// <param name="AllowOob">May be carried out beside other commands ("exec-oob").</param>
/// <param name="Help">A few sentences for the reference.</param>
public sealed record CommandDescription(
    string Name, SchemaType Arguments, SchemaType? Returns, IReadOnlyList<string> Features, bool AllowOob, string Help);

/// <summary>What there is to know of an event.</summary>
/// <param name="Data">Null: the event has no data.</param>
public sealed record EventDescription(string Name, StructType? Data, string Help);
