using BlockMount.Control.Json;
using BlockMount.Control.Qmp;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Hmp;

/// <summary>
/// The human monitor: carries lines out by commands of the machine protocol, and shows their results as text. Lines are carried out one
/// at a time, within the command human-monitor-command.
/// </summary>
public sealed class HmpMonitor
{
    private readonly CommandTable _commands;
    private readonly List<HmpCommand> _lines = [];
    private readonly List<HmpCommand> _queries = [];

    private HmpMonitor(CommandTable commands)
    {
        _commands = commands;
        _lines.Add(new HmpCommand(
            ["help", "?"], "[cmd]", "show what there is, or one command", [new HmpParameter("name", HmpParameterKind.Rest, Optional: true)],
            arguments => new ValueTask<string>(Help(arguments.Text("name")))));
        _lines.Add(new HmpCommand(
            ["info"], "[subcommand]", "show something", [new HmpParameter("item", HmpParameterKind.Rest, Optional: true)],
            arguments => InfoAsync(arguments.Text("item"))));
        _lines.AddRange(HmpNodeCommands.Lines(this));
        _lines.AddRange(HmpExportCommands.Lines(this));
        _queries.AddRange(HmpNodeCommands.Queries(this));
    }

    /// <summary>Adds human-monitor-command, through which lines are carried out.</summary>
    public static HmpMonitor Register(CommandTable commands)
    {
        HmpMonitor monitor = new(commands);
        commands.Register(ControlSchema.HumanMonitor, async arguments => (await monitor.RunAsync(arguments.Text("command-line")!)).Replace("\n", "\r\n", StringComparison.Ordinal));
        return monitor;
    }

    /// <summary>Words that could stand where the text ends: commands, or what info shows.</summary>
    public IReadOnlyList<string> Complete(string text)
    {
        int start = text.LastIndexOf(' ') + 1;
        string word = text[start..];
        IEnumerable<HmpCommand> candidates = text[..start].Trim() switch
        {
            "" or "help" or "?" => _lines,
            "info" => _queries,
            _ => [],
        };
        return [.. candidates.SelectMany(command => command.Names).Where(name => name.StartsWith(word, StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
    }

    /// <summary>Runs a command of the machine protocol for a line.</summary>
    /// <exception cref="CommandException">It failed.</exception>
    internal ValueTask<JsonValue> ExecuteAsync(string command, JsonObject? arguments = null) =>
        _commands.ExecuteInTurnAsync(command, arguments ?? new JsonObject());

    /// <summary>Carries one line out; what fails is told in the text.</summary>
    internal async ValueTask<string> RunAsync(string line)
    {
        try
        {
            return await RunAsync(_lines, new HmpLexer(line));
        }
        catch (CommandException error)
        {
            return $"Error: {error.Message}\n";
        }
    }

    private static async ValueTask<string> RunAsync(List<HmpCommand> commands, HmpLexer line)
    {
        string name = "";
        try
        {
            if (line.AtEnd)
            {
                return "";
            }

            name = line.ReadWord();
            HmpCommand? command = commands.Find(candidate => candidate.Names.Contains(name));
            if (command is null)
            {
                return $"unknown command: '{name}'\n";
            }

            return await command.Run(HmpSyntax.Parse(name, command.Parameters, line));
        }
        catch (HmpSyntaxException error)
        {
            return error.Message + "\n" + (error.SuggestsHelp ? $"Try \"help {name}\" for more information\n" : "");
        }
    }

    private ValueTask<string> InfoAsync(string? item) => item is null
        ? new ValueTask<string>(string.Concat(_queries.Select(query => "info " + query.HelpLine)))
        : RunAsync(_queries, new HmpLexer(item));

    private string Help(string? name)
    {
        IEnumerable<HmpCommand> commands = name is null ? _lines : _lines.Where(command => command.Names.Contains(name));
        string text = string.Concat(commands.Select(command => command.HelpLine));
        return name == "info" ? string.Concat(_queries.Select(query => "info " + query.HelpLine)) : text.Length > 0 ? text : $"unknown command: '{name}'\n";
    }
}
