using System.CommandLine;
using BlockMount.Base;
using BlockMount.Control.Client;
using BlockMount.Control.Json;
using BlockMount.Control.Schema;
using BlockMount.Control.Terminal;

namespace BlockMount.Daemon.Cli;

/// <summary>blockmount qmp ADDRESS [COMMAND [KEY=VALUE ...]]: carries out one command, or those that are typed.</summary>
internal static class QmpCommand
{
    private const string Prompt = "(qmp) ";

    public static Command Build()
    {
        Argument<string> address = new("ADDRESS") { Description = "PATH of the socket, or tcp:HOST:PORT" };
        Argument<string[]> words = new("COMMAND") { Arity = ArgumentArity.ZeroOrMore, Description = "a command and its arguments as KEY=VALUE, or a whole message in braces; without it, lines are read" };
        Command command = new("qmp", "Send commands to a QMP monitor, as qmp-shell does.") { address, words };
        command.SetAction(parsed => Run(parsed.GetRequiredValue(address), parsed.GetValue(words) ?? []));
        return command;
    }

    private static int Run(string address, string[] words)
    {
        JsonObject? message = words.Length == 0 ? null : Parse(() => words.Length == 1 ? ShellLine.Parse(words[0]) : ShellLine.Parse(words));
        using QmpClient client = QmpClient.Connect(ListenAddress.ParseMonitor("qmp", address));
        return message is not null ? Execute(client, message) : Interact(client);
    }

    private static JsonObject Parse(Func<JsonObject> parse)
    {
        try
        {
            return parse();
        }
        catch (FormatException error)
        {
            throw new UsageException(error.Message, "Write COMMAND KEY=VALUE ..., or a message as {\"execute\": \"query-block\"}.");
        }
    }

    private static int Execute(QmpClient client, JsonObject message)
    {
        try
        {
            Console.Out.WriteLine(JsonWriter.Write(client.Execute(message), pretty: true));
            return ExitCodes.Success;
        }
        catch (CommandException error)
        {
            throw new BlockMountException($"{message.Text("execute") ?? "the command"}: {error.Message}", innerException: error);
        }
    }

    private static int Interact(QmpClient client)
    {
        client.OnEvent = message => Console.Out.WriteLine(JsonWriter.Write(message));
        using SystemTerminal? terminal = SystemTerminal.IsUsable ? new SystemTerminal() : null;
        LineEditor? editor = terminal is null ? null : new LineEditor(terminal, Completion(client).Complete);
        while ((editor is null ? Console.In.ReadLine() : editor.ReadLine(Prompt)) is { } line)
        {
            if (line.Trim().Length > 0)
            {
                RunLine(client, line);
            }
        }

        return ExitCodes.Success;
    }

    // A monitor without the command has nothing to complete from.
    private static SchemaCompletion Completion(QmpClient client)
    {
        try
        {
            return new SchemaCompletion(client.Execute("query-qmp-schema", new JsonObject()) as JsonList ?? new JsonList());
        }
        catch (CommandException)
        {
            return new SchemaCompletion(new JsonList());
        }
    }

    private static void RunLine(QmpClient client, string line)
    {
        try
        {
            Console.Out.WriteLine(JsonWriter.Write(client.Execute(ShellLine.Parse(line)), pretty: true));
        }
        catch (Exception error) when (error is FormatException or CommandException)
        {
            Console.Out.WriteLine($"Error: {error.Message}");
        }
    }
}
