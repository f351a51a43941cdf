using BlockMount.Control.Json;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Qmp;

/// <summary>Carries a command out. The arguments fit its description.</summary>
/// <returns>The result; null where there is none.</returns>
/// <exception cref="CommandException">It failed.</exception>
public delegate ValueTask<JsonValue?> CommandHandler(JsonObject arguments, CommandContext context);

/// <summary>
/// The commands of this program: their descriptions, and what carries them out. One command runs at a time, whichever monitor it came from; those that
/// may run out of band do not wait. Registering ends before the first client connects; then any thread.
/// </summary>
public sealed class CommandTable
{
    private readonly SortedDictionary<string, (CommandDescription Description, CommandHandler Handler)> _commands = new(StringComparer.Ordinal);
    private readonly ICommandExecutor _executor;
    private readonly CommandContext _inBand;
    private readonly CommandContext _outOfBand;

    /// <param name="schema">Describes every command that will be registered.</param>
    /// <param name="events">What handlers emit events to.</param>
    /// <param name="executor">Where commands run; one after the other on the caller's thread by default.</param>
    public CommandTable(CommandSchema schema, QmpEvents events, ICommandExecutor? executor = null)
    {
        Schema = schema;
        _executor = executor ?? new SerialExecutor();
        _inBand = new CommandContext(events, OutOfBand: false);
        _outOfBand = new CommandContext(events, OutOfBand: true);
    }

    /// <summary>The result of a command that returns nothing.</summary>
    public static JsonValue Nothing => new JsonObject();

    /// <summary>Describes the commands, and others that have nobody who carries them out.</summary>
    public CommandSchema Schema { get; }

    /// <summary>All commands that can be carried out, by name.</summary>
    public IEnumerable<CommandDescription> Descriptions => _commands.Values.Select(command => command.Description);

    /// <summary>Gives a command that is described somebody who carries it out.</summary>
    /// <exception cref="ArgumentException">It is not described, or has somebody.</exception>
    public void Register(string name, CommandHandler handler) => _commands.Add(
        name, (Schema.Commands.TryGetValue(name, out CommandDescription? description) ? description : throw new ArgumentException($"command '{name}' is not described"), handler));

    /// <summary>The same, for one that needs no context.</summary>
    public void Register(string name, Func<JsonObject, ValueTask<JsonValue>> handler) =>
        Register(name, async (arguments, _) => await handler(arguments));

    /// <summary>The same, for one that neither waits nor returns anything.</summary>
    public void Register(string name, Action<JsonObject> action) => Register(name, (arguments, _) =>
    {
        action(arguments);
        return new ValueTask<JsonValue?>(result: null);
    });

    /// <summary>The same, for one that does not wait.</summary>
    public void Register(string name, Func<JsonObject, JsonValue> function) =>
        Register(name, (arguments, _) => new ValueTask<JsonValue?>(function(arguments)));

    /// <summary>Checks the arguments and carries the command out, after those that came before.</summary>
    /// <exception cref="CommandException">There is no such command, its arguments do not fit, or it failed.</exception>
    public ValueTask<JsonValue> ExecuteAsync(string name, JsonObject arguments) =>
        _executor.RunAsync(() => ExecuteInTurnAsync(name, arguments));

    /// <summary>The same, beside whatever else runs.</summary>
    /// <exception cref="CommandException">See <see cref="ExecuteAsync"/>; or the command cannot run out of band.</exception>
    public ValueTask<JsonValue> ExecuteOutOfBandAsync(string name, JsonObject arguments) =>
        Get(name).Description.AllowOob ? RunAsync(name, arguments, _outOfBand) : throw new CommandException($"The command {name} does not support OOB");

    /// <summary>Runs a command from within another one, which has its turn already.</summary>
    /// <exception cref="CommandException">See <see cref="ExecuteAsync"/>.</exception>
    internal ValueTask<JsonValue> ExecuteInTurnAsync(string name, JsonObject arguments) => RunAsync(name, arguments, _inBand);

    private (CommandDescription Description, CommandHandler Handler) Get(string name) => _commands.TryGetValue(name, out var command)
        ? command
        : throw new CommandException($"The command {name} has not been found", CommandException.CommandNotFound);

    private async ValueTask<JsonValue> RunAsync(string name, JsonObject arguments, CommandContext context)
    {
        (CommandDescription description, CommandHandler handler) = Get(name);
        ArgumentCheck.Check(description.Arguments, arguments);
        try
        {
            return await handler(arguments, context) ?? Nothing;
        }
        catch (Exception error) when (error is not CommandException)
        {
            // Whatever failed below is the answer; a client must not be able to end the daemon.
            throw new CommandException(error.Message, innerException: error);
        }
    }
}
