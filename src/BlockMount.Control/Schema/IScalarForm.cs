using BlockMount.Control.Json;

namespace BlockMount.Control.Schema;

/// <summary>How scalars are written in one form of arguments, and how errors name a place in it. Stateless.</summary>
internal interface IScalarForm
{
    /// <summary>The value as the type has it.</summary>
    /// <exception cref="CommandException">It does not fit.</exception>
    public JsonValue Read(BuiltinType type, JsonValue value, string path);

    /// <summary>A value that must be a string.</summary>
    /// <exception cref="CommandException">It is none.</exception>
    public JsonString Text(JsonValue value, string path);

    /// <summary>The name of an item of a list.</summary>
    public string ItemPath(string path, int index);

    /// <summary>The name of a member without what leads to it; "null" for items of lists, which have none.</summary>
    public string LastName(string path);
}
