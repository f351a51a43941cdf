using BlockMount.Control.Json;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Commands;

/// <summary>
/// Makes iothreads. Exports have their own way to use processors, so one is remembered, checked and shown, and starts no thread.
/// </summary>
internal static class ThreadObject
{
    // Name, and value where none is given; in the order in which QEMU lists them.
    private static readonly (string Name, long Default)[] s_properties =
    [
        ("thread-pool-min", 0), ("aio-max-batch", 0), ("thread-pool-max", 64), ("poll-max-ns", 32768), ("poll-grow", 0), ("poll-shrink", 0),
    ];

    /// <exception cref="CommandException">A number does not fit.</exception>
    internal static StoredObject Make(string id, JsonObject arguments)
    {
        Dictionary<string, long> values = s_properties.ToDictionary(property => property.Name, property => arguments.Integer(property.Name) ?? property.Default);
        foreach ((string name, long _) in s_properties)
        {
            if (values[name] < 0)
            {
                throw new CommandException($"{name} value must be in range [0, {long.MaxValue}]");
            }
        }

        if (values["thread-pool-max"] == 0 || values["thread-pool-max"] > int.MaxValue || values["thread-pool-min"] > values["thread-pool-max"])
        {
            throw new CommandException("bad thread-pool-min/thread-pool-max values");
        }

        return new StoredObject(id, "iothread", [.. s_properties.Select(property => new ObjectProperty(property.Name, "int", () => values[property.Name]))]);
    }
}
