using BlockMount.Base;
using BlockMount.Block.Filters;
using BlockMount.Control.Json;
using BlockMount.Control.Qmp;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Commands;

/// <summary>Commands about objects, and about the character devices, which are found at the same paths.</summary>
public sealed class ObjectCommands
{
    private readonly IMonitorHost _host;
    private readonly ObjectStore _objects;
    private readonly ObjectPaths _paths;

    private ObjectCommands(IMonitorHost host, ObjectStore objects)
    {
        _host = host;
        _objects = objects;
        _paths = new ObjectPaths(host, objects);
    }

    /// <summary>Adds the commands to the table.</summary>
    public static void Register(CommandTable commands, IMonitorHost host, ObjectStore objects)
    {
        ObjectCommands own = new(host, objects);
        commands.Register("object-add", own.AddAsync);
        commands.Register("object-del", own.DeleteAsync);
        commands.Register("qom-list", arguments => own._paths.List(arguments.Text("path")!));
        commands.Register("qom-get", arguments => own._paths.Get(arguments.Text("path")!, arguments.Text("property")!));
        commands.Register("query-chardev", own.QueryChannels);
    }

    private async ValueTask<JsonValue> AddAsync(JsonObject arguments)
    {
        string id = arguments.Text("id")!;
        if (id.Length == 0 || !char.IsAsciiLetter(id[0]) || !id.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '.' or '_'))
        {
            throw new BlockMountException("Parameter 'id' expects an identifier", "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.");
        }

        CheckFree(id);
        StoredObject made = arguments.Text("qom-type") switch
        {
            "secret" => SecretObject.Make(id, arguments),
            "iothread" => ThreadObject.Make(id, arguments),
            _ => await MakeGroupAsync(id, arguments),
        };
        _objects.Add(made);
        return CommandTable.Nothing;
    }

    private async ValueTask<StoredObject> MakeGroupAsync(string id, JsonObject arguments)
    {
        ThrottleLimits limits = ThrottleProperties.Read(arguments);
        ThrottleGroup group = await _host.Control.RunAsync(scope => new ValueTask<ThrottleGroup>(scope.Graph.SetThrottleGroup(scope, id, limits)));
        return new StoredObject(id, "throttle-group", ThrottleProperties.Of(group));
    }

    private void CheckFree(string id)
    {
        if (_objects.TryFind(id) is not null)
        {
            throw new CommandException($"attempt to add duplicate property '{id}' to object (type 'container')");
        }
    }

    private async ValueTask<JsonValue> DeleteAsync(JsonObject arguments)
    {
        string id = arguments.Text("id")!;
        StoredObject removed = _objects.TryFind(id) ?? throw new CommandException($"object '{id}' not found");
        if (removed.Kind == "throttle-group")
        {
            await _host.Control.RunAsync(scope =>
            {
                scope.Graph.RemoveThrottleGroup(scope, id);
                return ValueTask.CompletedTask;
            });
        }

        _objects.Remove(removed);
        return CommandTable.Nothing;
    }

    private JsonValue QueryChannels(JsonObject arguments) => new JsonList(_host.Channels.Select(channel => new JsonObject
    {
        ["frontend-open"] = channel.IsOpen,
        ["filename"] = channel.FileName,
        ["label"] = channel.Label,
    }));
}
