using BlockMount.Base.Async;
using BlockMount.Control.Json;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Qmp;

/// <summary>Carries a command out. The arguments fit its description.</summary>
/// <returns>The result; <see cref="CommandTable.Nothing"/> where there is none.</returns>
/// <exception cref="CommandException">It failed.</exception>
public delegate ValueTask<JsonValue> CommandHandler(JsonObject arguments);

/// <summary>
/// The commands of this program: descriptions and what carries them out. One command runs at a time, whichever monitor it came from; those that
/// may run out of band do not wait. Registering ends before the first client connects; then any thread.
/// </summary>
public sealed class CommandTable
{
    private readonly SortedDictionary<string, (CommandDescription Description, CommandHandler Handler)> _commands = new(StringComparer.Ordinal);
    private readonly List<EventDescription> _events = [];
    private readonly AsyncMutex _oneAtATime = new();

    /// <summary>The result of a command that returns nothing.</summary>
    public static JsonValue Nothing => new JsonObject();

    /// <summary>All commands, by name.</summary>
    public IEnumerable<CommandDescription> Descriptions => _commands.Values.Select(command => command.Description);

    /// <summary>All events.</summary>
    public IReadOnlyList<EventDescription> Events => _events;

    /// <summary>Adds a command.</summary>
    public void Register(CommandDescription description, CommandHandler handler) => _commands.Add(description.Name, (description, handler));

    /// <summary>Adds a command that neither waits nor returns anything.</summary>
    public void Register(CommandDescription description, Action<JsonObject> action) => Register(description, arguments =>
    {
        action(arguments);
        return new ValueTask<JsonValue>(Nothing);
    });

    /// <summary>Adds a command that does not wait.</summary>
    public void Register(CommandDescription description, Func<JsonObject, JsonValue> function) =>
        Register(description, arguments => new ValueTask<JsonValue>(function(arguments)));

    /// <summary>Adds an event that may be emitted.</summary>
    public void Register(EventDescription description) => _events.Add(description);

    /// <summary>Checks the arguments and carries the command out, after those that came before.</summary>
    /// <exception cref="CommandException">There is no such command, its arguments do not fit, or it failed.</exception>
    public async ValueTask<JsonValue> ExecuteAsync(string name, JsonObject arguments)
    {
        (CommandDescription description, CommandHandler handler) = Get(name);
        ArgumentCheck.Check(description.Arguments, arguments);
        using AsyncMutex.Releaser turn = await _oneAtATime.LockAsync();
        return await RunAsync(handler, arguments);
    }

    /// <summary>The same, beside whatever else runs.</summary>
    /// <exception cref="CommandException">See <see cref="ExecuteAsync"/>; or the command cannot run out of band.</exception>
    public ValueTask<JsonValue> ExecuteOutOfBandAsync(string name, JsonObject arguments)
    {
        (CommandDescription description, CommandHandler handler) = Get(name);
        if (!description.AllowOob)
        {
            throw new CommandException($"The command {name} does not support OOB");
        }

        ArgumentCheck.Check(description.Arguments, arguments);
        return RunAsync(handler, arguments);
    }

    /// <summary>Runs a command from within another one, which has its turn already.</summary>
    /// <exception cref="CommandException">See <see cref="ExecuteAsync"/>.</exception>
    internal ValueTask<JsonValue> ExecuteInTurnAsync(string name, JsonObject arguments)
    {
        (CommandDescription description, CommandHandler handler) = Get(name);
        ArgumentCheck.Check(description.Arguments, arguments);
        return RunAsync(handler, arguments);
    }

    private (CommandDescription Description, CommandHandler Handler) Get(string name) => _commands.TryGetValue(name, out var command)
        ? command
        : throw new CommandException($"The command {name} has not been found", CommandException.CommandNotFound);

    private static async ValueTask<JsonValue> RunAsync(CommandHandler handler, JsonObject arguments)
    {
        try
        {
            return await handler(arguments);
        }
        catch (Exception error) when (error is not CommandException)
        {
            // Whatever failed below is the answer; a client must not be able to end the daemon.
            throw new CommandException(error.Message, innerException: error);
        }
    }
}
