namespace BlockMount.Control.Schema;

/// <summary>A type of QMP arguments, results and events, as in QEMU's QAPI. Immutable.</summary>
/// <param name="Name">Name for people; on the wire types have no names.</param>
public abstract record SchemaType(string Name);

/// <summary>What a built-in type takes.</summary>
public enum BuiltinKind
{
    /// <summary>A string.</summary>
    Text,

    /// <summary>A 64-bit integer with a sign.</summary>
    Integer,

    /// <summary>A 64-bit integer without one; negative numbers wrap, as in QEMU.</summary>
    Size,

    /// <summary>A 32-bit integer without a sign.</summary>
    UInt32,

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
/// <param name="WireName">Its name in query-qmp-schema, which knows one type of integers.</param>
/// <param name="JsonType">Its type in JSON there.</param>
public sealed record BuiltinType(string Name, BuiltinKind Kind, string WireName, string JsonType) : SchemaType(Name)
{
    public static readonly BuiltinType Str = new("str", BuiltinKind.Text, "str", "string");
    public static readonly BuiltinType Int = new("int", BuiltinKind.Integer, "int", "int");
    public static readonly BuiltinType Bytes = new("size", BuiltinKind.Size, "int", "int");
    public static readonly BuiltinType Uint32 = new("uint32", BuiltinKind.UInt32, "int", "int");
    public static readonly BuiltinType Number = new("number", BuiltinKind.Number, "number", "number");
    public static readonly BuiltinType Bool = new("bool", BuiltinKind.Boolean, "bool", "boolean");
    public static readonly BuiltinType Null = new("null", BuiltinKind.Null, "null", "null");
    public static readonly BuiltinType Any = new("any", BuiltinKind.Any, "any", "value");
}

/// <summary>One of several words.</summary>
public sealed record EnumType(string Name, IReadOnlyList<string> Values) : SchemaType(Name);

/// <summary>A list.</summary>
public sealed record ListType(SchemaType Element) : SchemaType($"[{Element.Name}]");

/// <summary>A member of an object.</summary>
/// <param name="Optional">May be left out.</param>
/// <param name="Help">What it means, units included.</param>
public sealed record SchemaMember(string Name, SchemaType Type, bool Optional, string Help);

/// <summary>An object.</summary>
/// <param name="Base">Whose members it has too, and first; null if there is none.</param>
public sealed record StructType(string Name, IReadOnlyList<SchemaMember> Members, StructType? Base = null) : SchemaType(Name)
{
    /// <summary>The members, those of the base first.</summary>
    public IEnumerable<SchemaMember> AllMembers => Base is null ? Members : Base.AllMembers.Concat(Members);
}

/// <summary>An object whose further members depend on one of them.</summary>
/// <param name="Common">Members that it always has, the discriminator among them.</param>
/// <param name="Discriminator">Name of the member that decides; its type is an <see cref="EnumType"/>.</param>
/// <param name="Variants">By value of the discriminator; a value that is missing adds nothing. Asked when needed: types may contain themselves.</param>
public sealed record UnionType(string Name, IReadOnlyList<SchemaMember> Common, string Discriminator, Func<IReadOnlyDictionary<string, StructType>> Variants)
    : SchemaType(Name)
{
    /// <summary>The words that the discriminator may be.</summary>
    public EnumType Kinds => (EnumType)Common.Single(member => member.Name == Discriminator).Type;
}

/// <summary>One of several types that differ in their type in JSON.</summary>
/// <param name="Choices">Asked when needed: types may contain themselves.</param>
public sealed record AlternateType(string Name, Func<IReadOnlyList<SchemaType>> Choices) : SchemaType(Name);
