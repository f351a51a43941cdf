using System.Text;

namespace BlockMount.Control.Schema;

/// <summary>Makes docs/qmp-reference.md of the description.</summary>
internal static class ReferenceText
{
    internal static string Of(IEnumerable<CommandDescription> commands, IEnumerable<EventDescription> events)
    {
        StringBuilder text = new();
        _ = text.Append("# QMP reference\n\nMade of the description of the commands; a test compares this file with it. Sizes are in bytes. `*` marks what may be left out.\n\n## Commands\n");
        foreach (CommandDescription command in commands)
        {
            AppendCommand(text, command);
        }

        _ = text.Append("\n## Events\n");
        foreach (EventDescription item in events)
        {
            _ = text.Append($"\n### {item.Name}\n\n{item.Help}\n");
            AppendMembers(text, item.Data?.AllMembers ?? []);
        }

        return text.ToString();
    }

    private static void AppendCommand(StringBuilder text, CommandDescription command)
    {
        _ = text.Append($"\n### {command.Name}\n\n{command.Help}");
        _ = text.Append(command.Deprecated ? " Deprecated, as in QEMU.\n" : "\n");
        if (command.Arguments is UnionType union)
        {
            AppendMembers(text, union.Common);
            foreach ((string kind, StructType variant) in union.Variants())
            {
                _ = text.Append($"\nWith {union.Discriminator}={kind}:\n");
                AppendMembers(text, variant.AllMembers);
            }
        }
        else
        {
            AppendMembers(text, ((StructType)command.Arguments).AllMembers);
        }

        if (command.Returns is { } returns)
        {
            _ = text.Append($"\nReturns: {Name(returns)}\n");
            AppendMembers(text, (returns as StructType ?? (returns as ListType)?.Element as StructType)?.AllMembers ?? []);
        }
    }

    private static void AppendMembers(StringBuilder text, IEnumerable<SchemaMember> members)
    {
        if (!members.Any())
        {
            return;
        }

        _ = text.Append("\n| member | type | |\n|---|---|---|\n");
        foreach (SchemaMember member in members)
        {
            _ = text.Append($"| {(member.Optional ? "*" : "")}`{member.Name}` | {Name(member.Type)} | {member.Help} |\n");
        }
    }

    private static string Name(SchemaType type) => type switch
    {
        EnumType words => string.Join(", ", words.Values.Select(word => $"`{word}`")),
        ListType list => $"list of {(list.Element is EnumType ? Name(list.Element) : list.Element.Name)}",
        _ => type.Name,
    };
}
