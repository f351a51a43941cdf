namespace BlockMount.Control.Schema;

/// <summary>Short forms for describing types, so that a description reads like a table.</summary>
internal static class Describe
{
    internal static readonly StructType NoMembers = new("q_empty", []);

    internal static SchemaMember Need(string name, SchemaType type, string help = "") => new(name, type, Optional: false, help);

    internal static SchemaMember May(string name, SchemaType type, string help = "") => new(name, type, Optional: true, help);

    internal static StructType Struct(string name, params SchemaMember[] members) => new(name, members);

    internal static StructType Struct(string name, StructType parent, params SchemaMember[] members) => new(name, members, parent);

    internal static EnumType Enum(string name, params string[] values) => new(name, values);

    internal static ListType ListOf(SchemaType element) => new(element);

    internal static CommandDescription Command(string name, string help, SchemaMember[] arguments, SchemaType? returns = null) =>
        new(name, arguments.Length == 0 ? NoMembers : new StructType($"q_obj_{name}-arg", arguments), returns, help);

    internal static EventDescription Event(string name, string help, params SchemaMember[] data) =>
        new(name, data.Length == 0 ? null : new StructType($"q_obj_{name}-arg", data), help);
}
