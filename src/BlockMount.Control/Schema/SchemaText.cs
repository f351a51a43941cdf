namespace BlockMount.Control.Schema;

/// <summary>
/// Reads descriptions of types, commands and events. One declaration begins at the margin and goes on in indented lines:
/// <code>
/// enum Name: word word              struct Name            union Name on member         alternate Name: Type Type
///                                     *member: [Type]        member: EnumType
/// command name                        base Type              when word word: Type       event NAME
///   | what it does                                                                        member: Type
///   *member: Type {feature} | what it means
///   args Type
///   returns Type
///   features word word
/// </code>
/// An asterisk marks what may be left out. Types may be used before they are described, and in other texts. One use.
/// </summary>
internal sealed class SchemaText
{
    private readonly Dictionary<string, SchemaType> _types = BuiltinType.All.ToDictionary(type => type.Name, type => (SchemaType)type, StringComparer.Ordinal);
    private readonly Dictionary<string, CommandDescription> _commands = new(StringComparer.Ordinal);
    private readonly Dictionary<string, EventDescription> _events = new(StringComparer.Ordinal);
    private readonly List<SchemaDeclaration> _declarations;

    private SchemaText(IEnumerable<string> texts) => _declarations = [.. texts.SelectMany(SchemaDeclaration.Split)];

    /// <summary>Reads texts that belong together.</summary>
    /// <exception cref="FormatException">They are no description; the message names the declaration.</exception>
    public static CommandSchema Read(params string[] texts)
    {
        SchemaText reader = new(texts);
        foreach (SchemaDeclaration declaration in reader._declarations)
        {
            reader.Create(declaration);
        }

        foreach (SchemaDeclaration declaration in reader._declarations)
        {
            reader.Complete(declaration);
        }

        return new CommandSchema(reader._types, reader._commands, reader._events);
    }

    private void Create(SchemaDeclaration declaration)
    {
        SchemaType? type = declaration.Keyword switch
        {
            "enum" => new EnumType(declaration.Name, declaration.Words),
            "struct" => new StructType(declaration.Name),
            "union" => new UnionType(declaration.Name, declaration.Words[0]),
            "alternate" => new AlternateType(declaration.Name),
            "command" or "event" => null,
            _ => throw declaration.Wrong("unknown keyword"),
        };
        if (type is not null && !_types.TryAdd(declaration.Name, type))
        {
            throw declaration.Wrong("described twice");
        }
    }

    private void Complete(SchemaDeclaration declaration)
    {
        switch (declaration.Keyword)
        {
            case "struct":
                StructType members = (StructType)_types[declaration.Name];
                members.Members = Members(declaration);
                members.Features = declaration.Line("features")?.Split(' ') ?? [];
                break;
            case "union":
                CompleteUnion(declaration, (UnionType)_types[declaration.Name]);
                break;
            case "alternate":
                ((AlternateType)_types[declaration.Name]).Choices = [.. declaration.Words.Select(word => Type(declaration, word))];
                break;
            case "command":
                _commands.Add(declaration.Name, Command(declaration));
                break;
            case "event":
                StructType data = Object(declaration);
                _events.Add(declaration.Name, new EventDescription(declaration.Name, data.Members.Count == 0 ? null : data, declaration.Help));
                break;
            default:
                break;
        }

        if (_types.TryGetValue(declaration.Name, out SchemaType? type))
        {
            type.Help = declaration.Help;
        }
    }

    private void CompleteUnion(SchemaDeclaration declaration, UnionType union)
    {
        union.Common = Members(declaration);
        Dictionary<string, StructType> variants = new(StringComparer.Ordinal);
        foreach (string line in declaration.Lines("when"))
        {
            string[] halves = line.Split(": ");
            foreach (string word in halves[0].Split(' '))
            {
                variants.Add(word, Type(declaration, halves[1]) as StructType ?? throw declaration.Wrong($"'{halves[1]}' is no struct"));
            }
        }

        union.Variants = variants;
    }

    private CommandDescription Command(SchemaDeclaration declaration) => new(
        declaration.Name,
        declaration.Line("args") is { } type ? Type(declaration, type) : Object(declaration),
        declaration.Line("returns") is { } result ? Type(declaration, result) : null,
        declaration.Line("features")?.Split(' ') ?? [],
        declaration.Words.Contains("oob"),
        declaration.Help);

    private StructType Object(SchemaDeclaration declaration)
    {
        List<SchemaMember> members = Members(declaration);
        return members.Count == 0 ? StructType.Empty : new StructType($"q_obj_{declaration.Name}-arg") { Members = members };
    }

    // A base must stand before its heirs: its members are copied.
    private List<SchemaMember> Members(SchemaDeclaration declaration)
    {
        List<SchemaMember> members = [];
        if (declaration.Line("base") is { } parent)
        {
            members.AddRange(((StructType)Type(declaration, parent)).Members);
        }

        members.AddRange(declaration.Members.Select(member => new SchemaMember(
            member.Name, Type(declaration, member.Type), member.Optional, member.Features, member.Help)));
        return members;
    }

    private SchemaType Type(SchemaDeclaration declaration, string name) =>
        name.StartsWith('[') ? new ListType(Type(declaration, name[1..^1]))
        : _types.TryGetValue(name, out SchemaType? type) ? type
        : throw declaration.Wrong($"there is no type '{name}'");
}
