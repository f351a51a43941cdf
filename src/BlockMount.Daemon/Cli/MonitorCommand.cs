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
        LineEditor? editor = terminal is null ? null : new LineEditor(terminal, static _ => []);
        while ((editor is null ? Console.In.ReadLine() : editor.ReadLine(HmpSession.Prompt)) is { } typed)
        {
            Console.Out.Write(RunLine(client, typed));
        }

        return ExitCodes.Success;
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
