using System.CommandLine;
using BlockMount.Control.Client;
using BlockMount.Control.Hmp;
using BlockMount.Control.Json;
using BlockMount.Control.Schema;
using BlockMount.Control.Terminal;

namespace BlockMount.Daemon.Cli;

/// <summary>blockmount monitor ADDRESS [LINE]: the human monitor, over a socket of the machine protocol.</summary>
internal static class MonitorCommand
{
    public static Command Build()
    {
        Argument<string> address = new("ADDRESS") { Description = "of --qmp: PATH of the socket, or tcp:HOST:PORT" };
        Argument<string[]> words = new("LINE") { Arity = ArgumentArity.ZeroOrMore, Description = "a line to carry out; without it, lines are read" };
        Command command = new("monitor", "Talk to the human monitor of a daemon that has --qmp.") { address, words };
        command.SetAction(parsed => Run(parsed.GetRequiredValue(address), string.Join(' ', parsed.GetValue(words) ?? [])));
        return command;
    }

    private static int Run(string address, string line)
    {
        using QmpClient client = QmpClient.Connect(ListenAddress.ParseMonitor("monitor", address));
        if (line.Length > 0)
        {
            Console.Out.Write(RunLine(client, line));
            return ExitCodes.Success;
        }

        using SystemTerminal? terminal = SystemTerminal.IsUsable ? new SystemTerminal() : null;
        LineEditor? editor = terminal is null ? null : new LineEditor(terminal, Completion(client));
        while ((editor is null ? Console.In.ReadLine() : editor.ReadLine(HmpSession.Prompt)) is { } typed)
        {
            Console.Out.Write(RunLine(client, typed));
        }

        return ExitCodes.Success;
    }

    // The daemon says what it can do: it may be of another version.
    private static Func<string, IReadOnlyList<string>> Completion(QmpClient client)
    {
        IReadOnlyList<HmpWord> commands = HmpCompletion.ReadHelp(RunLine(client, "help"));
        IReadOnlyList<HmpWord> queries = HmpCompletion.ReadHelp(RunLine(client, "info"), "info ");
        return text => HmpCompletion.Complete(text, commands, queries, Devices(client));
    }

    private static string[] Devices(QmpClient client)
    {
        try
        {
            return [.. ((JsonList)client.Execute("query-block", new JsonObject())).Cast<JsonObject>().Select(device => device.Text("device")!)];
        }
        catch (CommandException)
        {
            // A line is being typed; what is wrong shows when it is carried out.
            return [];
        }
    }

    private static string RunLine(QmpClient client, string line)
    {
        try
        {
            JsonValue text = client.Execute("human-monitor-command", new JsonObject { ["command-line"] = line });
            return ((JsonString)text).Value.Replace("\r\n", "\n", StringComparison.Ordinal);
        }
        catch (CommandException error)
        {
            return $"Error: {error.Message}\n";
        }
    }
}
