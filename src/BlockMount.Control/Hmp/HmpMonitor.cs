using BlockMount.Control.Commands;
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
    private readonly IMonitorHost _host;
    private readonly List<HmpCommand> _lines = [];
    private readonly List<HmpCommand> _queries = [];

    private HmpMonitor(CommandTable commands, IMonitorHost host)
    {
        _commands = commands;
        _host = host;
        _lines.Add(new HmpCommand(
            ["help", "?"], "[cmd]", "show what there is, or one command", [new HmpParameter("name", HmpParameterKind.Rest, Optional: true)],
            arguments => new ValueTask<string>(Help(arguments.Text("name")))));
        _lines.Add(new HmpCommand(
            ["info"], "[subcommand]", "show something", [new HmpParameter("item", HmpParameterKind.Rest, Optional: true)],
            arguments => InfoAsync(arguments.Text("item"))));
        _lines.AddRange(HmpNodeCommands.Lines(this));
        _lines.AddRange(HmpSnapshotCommands.Lines(this));
        _lines.AddRange(HmpMediumCommands.Lines(this));
        _lines.AddRange(HmpExportCommands.Lines(this));
        _lines.Add(HmpDiskCommand.Line(host.Control));
        _queries.AddRange(HmpQueryCommands.Queries(this));
    }

    /// <summary>Adds human-monitor-command, through which lines are carried out.</summary>
    public static HmpMonitor Register(CommandTable commands, IMonitorHost host)
    {
        HmpMonitor monitor = new(commands, host);
        commands.Register("human-monitor-command", async arguments => (await monitor.RunAsync(arguments.Text("command-line")!)).Replace("\n", "\r\n", StringComparison.Ordinal));
        return monitor;
    }

    /// <summary>Words that could stand where the text ends: commands, what info shows, or devices.</summary>
    public IReadOnlyList<string> Complete(string text) =>
        HmpCompletion.Complete(text, [.. _lines.SelectMany(Words)], [.. _queries.SelectMany(Words)], [.. _host.Devices.Select(device => device.Name)]);

    /// <summary>Runs a command of the machine protocol for a line.</summary>
    /// <exception cref="CommandException">It failed.</exception>
    internal ValueTask<JsonValue> ExecuteAsync(string command, JsonObject? arguments = null) =>
        _commands.ExecuteInTurnAsync(command, arguments ?? new JsonObject());

    /// <summary>The same for a command that returns nothing: nor is there anything to show.</summary>
    /// <exception cref="CommandException">It failed.</exception>
    internal async ValueTask<string> QuietAsync(string command, JsonObject? arguments = null)
    {
        _ = await ExecuteAsync(command, arguments);
        return "";
    }

    /// <summary>Carries one line out; what fails is told in the text.</summary>
    internal async ValueTask<string> RunAsync(string line)
    {
        try
        {
            return await RunAsync("", _lines, new HmpLexer(line));
        }
        catch (CommandException error)
        {
            return $"Error: {error.Message}\n";
        }
    }

    private static IEnumerable<HmpWord> Words(HmpCommand command) => command.Names.Select(name => new HmpWord(
        name, command.Parameters.FirstOrDefault(parameter => parameter.Kind != HmpParameterKind.Flag)?.Kind == HmpParameterKind.Device));

    /// <param name="before">What stands before the command on its line: "" or "info ".</param>
    private static async ValueTask<string> RunAsync(string before, List<HmpCommand> commands, HmpLexer line)
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
                return $"unknown command: '{before}{name}'\n";
            }

            return await command.Run(HmpSyntax.Parse(string.Join('|', command.Names), command.Parameters, line));
        }
        catch (HmpSyntaxException error)
        {
            return error.Message + "\n" + (error.SuggestsHelp ? $"Try \"help {before}{name}\" for more information\n" : "");
        }
    }

    private ValueTask<string> InfoAsync(string? item) => item is null
        ? new ValueTask<string>(InfoHelp(_queries))
        : RunAsync("info ", _queries, new HmpLexer(item));

    private string Help(string? name)
    {
        string[] words = name?.Split(' ', StringSplitOptions.RemoveEmptyEntries) ?? [];
        string text = words switch
        {
            [] => string.Concat(_lines.Select(command => command.HelpLine)),
            ["info"] => InfoHelp(_queries),
            ["info", var item, ..] => InfoHelp(_queries.Where(query => query.Names.Contains(item))),
            _ => string.Concat(_lines.Where(command => command.Names.Contains(words[0])).Select(command => command.HelpLine)),
        };
        return text.Length > 0 ? text : $"unknown command: '{name}'\n";
    }

    private static string InfoHelp(IEnumerable<HmpCommand> queries) => string.Concat(queries.Select(query => "info " + query.HelpLine));
}
