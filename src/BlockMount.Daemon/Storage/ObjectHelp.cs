using BlockMount.Control.Schema;

namespace BlockMount.Daemon.Storage;

/// <summary>The answers to '--object help' and '--object KIND,help', from the description of the commands.</summary>
internal static class ObjectHelp
{
    /// <summary>The lines; null if the option asks for no help.</summary>
    public static string? TextFor(OptionWord option)
    {
        UnionType objects = (UnionType)CommandSchema.Own.Types["ObjectOptions"];
        if (option.Name != "object")
        {
            return null;
        }

        if (option.Value is "help" or "?")
        {
            return "List of user creatable objects:\n  " + string.Join("\n  ", objects.Kinds.Values);
        }

        string[] words = option.Value.Split(',');
        return words is [var kind, "help" or "?"] && objects.Variants.TryGetValue(kind, out StructType? described)
            ? $"{kind} options:\n" + string.Join('\n', described.Members.Where(member => !member.Features.Contains("deprecated")).Select(Line).Order(StringComparer.Ordinal))
            : null;
    }

    private static string Line(SchemaMember member) => $"  {member.Name}=<{(member.Type.Name == "str" ? "string" : member.Type.Name)}>";
}
