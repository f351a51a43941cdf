namespace BlockMount.Control.Schema;

/// <summary>
/// All types, commands and events that are described, by name. From it come the check of arguments, query-qmp-schema, the reference and
/// completion. Immutable.
/// </summary>
public sealed class CommandSchema
{
    private static readonly string[] s_topics =
    [
        ControlSchema.Text, NodeOptionSchema.Text, NodeSchema.Text, ChangeSchema.Text, NodeQuerySchema.Text, SnapshotSchema.Text, ExportSchema.Text, TransactionSchema.Text,
        ObjectSchema.Text, EventSchema.Text,
    ];

    private static readonly Lazy<CommandSchema> s_own = new(() => SchemaText.Read(s_topics));

    internal CommandSchema(
        IReadOnlyDictionary<string, SchemaType> types, IReadOnlyDictionary<string, CommandDescription> commands,
        IReadOnlyDictionary<string, EventDescription> events)
    {
        Types = types;
        Commands = commands;
        Events = events;
    }

    /// <summary>The description of this program.</summary>
    public static CommandSchema Own => s_own.Value;

    /// <summary>The same with more, for tests.</summary>
    internal static CommandSchema OwnAnd(string text) => SchemaText.Read([.. s_topics, text]);

    /// <summary>Named types, the built-in ones included.</summary>
    public IReadOnlyDictionary<string, SchemaType> Types { get; }

    /// <summary>Commands.</summary>
    public IReadOnlyDictionary<string, CommandDescription> Commands { get; }

    /// <summary>Events.</summary>
    public IReadOnlyDictionary<string, EventDescription> Events { get; }
}
