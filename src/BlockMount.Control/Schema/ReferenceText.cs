using System.Text;

namespace BlockMount.Control.Schema;

/// <summary>Makes docs/qmp-reference.md of the description. One use.</summary>
internal sealed class ReferenceText
{
    private readonly StringBuilder _text = new();

    // What is named and has a section of its own, by name.
    private readonly SortedDictionary<string, SchemaType> _types = new(StringComparer.Ordinal);

    private ReferenceText()
    {
    }

    /// <summary>The whole document.</summary>
    internal static string Of(IEnumerable<CommandDescription> commands, IEnumerable<EventDescription> events)
    {
        ReferenceText reference = new();
        _ = reference._text.Append("# QMP reference\n\nMade of the description of the commands; a test compares this file with it. `*` marks what may be left out.\n\n## Commands\n");
        foreach (CommandDescription command in commands)
        {
            reference.Append(command);
        }

        _ = reference._text.Append("\n## Events\n");
        foreach (EventDescription item in events.OrderBy(item => item.Name, StringComparer.Ordinal))
        {
            _ = reference._text.Append($"\n### {item.Name}\n\n{item.Help}\n");
            reference.Append(item.Data?.Members ?? []);
        }

        reference.AppendTypes();
        return reference._text.ToString();
    }

    private void Append(CommandDescription command)
    {
        _ = _text.Append($"\n### {command.Name}\n\n{command.Help}{(command.AllowOob ? " May come as `exec-oob`." : "")}{Features(command.Features)}\n");
        if (command.Arguments is UnionType union)
        {
            AppendUnion(union);
        }
        else
        {
            Append(((StructType)command.Arguments).Members);
        }

        if (command.Returns is { } returns)
        {
            _ = _text.Append($"\nReturns {Name(returns)}.\n");
        }
    }

    // Describing one type may name others.
    private void AppendTypes()
    {
        _ = _text.Append("\n## Types\n");
        HashSet<string> described = new(StringComparer.Ordinal);
        StringBuilder heading = new(_text.ToString());
        SortedDictionary<string, string> sections = new(StringComparer.Ordinal);
        while (_types.Values.FirstOrDefault(type => !described.Contains(type.Name)) is { } type)
        {
            _ = described.Add(type.Name);
            _ = _text.Clear();
            AppendType(type);
            sections.Add(type.Name, _text.ToString());
        }

        _ = _text.Clear().Append(heading).AppendJoin("", sections.Values);
    }

    private void AppendType(SchemaType type)
    {
        _ = _text.Append($"\n### {type.Name}\n");
        if (type.Help.Length > 0)
        {
            _ = _text.Append($"\n{type.Help}\n");
        }

        switch (type)
        {
            case EnumType words:
                _ = _text.Append($"\nOne of {Words(words)}.\n");
                break;
            case AlternateType alternate:
                _ = _text.Append($"\nOne of: {string.Join(", ", alternate.Choices.Select(Name))}.\n");
                break;
            case UnionType union:
                AppendUnion(union);
                break;
            default:
                Append(((StructType)type).Members);
                break;
        }
    }

    private void AppendUnion(UnionType union)
    {
        Append(union.Common);
        foreach (IGrouping<StructType, string> variant in union.Variants.GroupBy(pair => pair.Value, pair => pair.Key))
        {
            _ = _text.Append($"\nWith `{union.Discriminator}` {string.Join(" or ", variant.Select(word => $"`{word}`"))}:\n");
            Append(variant.Key.Members);
        }
    }

    private void Append(IReadOnlyList<SchemaMember> members)
    {
        if (members.Count == 0)
        {
            return;
        }

        _ = _text.Append("\n| member | type | |\n|---|---|---|\n");
        foreach (SchemaMember member in members)
        {
            _ = _text.Append($"| {(member.Optional ? "\\*" : "")}`{member.Name}` | {Name(member.Type)} | {member.Help}{Features(member.Features)} |\n");
        }
    }

    private string Name(SchemaType type)
    {
        switch (type)
        {
            case BuiltinType:
                return type.Name;
            case ListType list:
                return $"list of {Name(list.Element)}";
            case EnumType { Values.Count: <= 4 } few:
                return Words(few);
            default:
                _ = _types.TryAdd(type.Name, type);
                return $"[{type.Name}](#{type.Name.ToLowerInvariant()})";
        }
    }

    private static string Words(EnumType words) => string.Join(", ", words.Values.Select(word => $"`{word}`"));

    private static string Features(IReadOnlyList<string> features) =>
        features.Count == 0 ? "" : $" ({string.Join(", ", features)})";
}
