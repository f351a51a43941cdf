using BlockMount.Control.Json;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Commands;

/// <summary>Finds what a path of qom-list and qom-get leads to: "/", "/objects", "/chardevs" and what is below, or an object's id alone. Commands only.</summary>
internal sealed class ObjectPaths(IMonitorHost host, ObjectStore objects)
{
    /// <summary>The properties of what the path leads to.</summary>
    /// <exception cref="CommandException">It leads nowhere.</exception>
    internal JsonValue List(string path)
    {
        IEnumerable<(string Name, string Type)> properties = Steps(path) switch
        {
            [] => [("objects", "child<container>"), ("chardevs", "child<container>")],
            ["objects"] => objects.Objects.Select(one => (one.Id, $"child<{one.Kind}>")),
            ["chardevs"] => host.Channels.Select(channel => (channel.Label, $"child<chardev-{Kind(channel)}>")),
            ["chardevs", var label] when host.Channels.Any(channel => channel.Label == label) => [],
            _ => (TryFind(path) ?? throw NotFound(path)).Properties.Select(property => (property.Name, property.Type)),
        };
        return new JsonList(properties.Prepend(("type", "string")).Select(property => new JsonObject { ["name"] = property.Item1, ["type"] = property.Item2 }));
    }

    /// <summary>A property of what the path leads to.</summary>
    /// <exception cref="CommandException">It leads nowhere, or has no such property.</exception>
    internal JsonValue Get(string path, string property)
    {
        if (Steps(path) is [] or ["objects"] or ["chardevs"])
        {
            return property == "type" ? "container" : throw new CommandException($"Property 'container.{property}' not found");
        }

        StoredObject found = TryFind(path) ?? throw NotFound(path);
        return property == "type" ? found.Kind
            : (found.Properties.FirstOrDefault(candidate => candidate.Name == property)
                ?? throw new CommandException($"Property '{found.Kind}.{property}' not found")).Get();
    }

    private StoredObject? TryFind(string path) => Steps(path) switch
    {
        ["objects", var id] => objects.TryFind(id),
        // Any part of a path that has only one meaning.
        [var id] when path[0] != '/' => objects.TryFind(id),
        _ => null,
    };

    private static string[] Steps(string path) => path.Split('/', StringSplitOptions.RemoveEmptyEntries);

    private static string Kind(MonitorChannel channel) => channel.FileName is "stdio" or "null" ? channel.FileName : "socket";

    private static CommandException NotFound(string path) => new($"Device '{path}' not found", CommandException.DeviceNotFound);
}
