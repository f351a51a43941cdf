using BlockMount.Block.Filters;
using BlockMount.Control.Json;

namespace BlockMount.Control.Commands;

/// <summary>Limits of throttle groups as objects have them: all in "limits", or each in an "x-" property.</summary>
internal static class ThrottleProperties
{
    private static readonly string[] s_limits = ["iops-total", "iops-read", "iops-write", "bps-total", "bps-read", "bps-write"];

    /// <summary>The limits that were asked for. "limits" goes before the single ones.</summary>
    internal static ThrottleLimits Read(JsonObject arguments)
    {
        JsonObject? limits = arguments.Object("limits");
        long? Value(string name) => limits?.Integer(name) ?? arguments.Integer("x-" + name);
        ThrottleLimit Limit(string name) => new(Value(name) ?? 0, Value(name + "-max") ?? 0, Value(name + "-max-length") ?? 1);
        return new ThrottleLimits
        {
            IopsTotal = Limit("iops-total"),
            IopsRead = Limit("iops-read"),
            IopsWrite = Limit("iops-write"),
            BpsTotal = Limit("bps-total"),
            BpsRead = Limit("bps-read"),
            BpsWrite = Limit("bps-write"),
            IopsSize = Value("iops-size") ?? 0,
        };
    }

    /// <summary>The properties of a group; their values are those in force when they are asked for.</summary>
    internal static IReadOnlyList<ObjectProperty> Of(ThrottleGroup group)
    {
        List<ObjectProperty> properties = [new("limits", "ThrottleLimits", () => All(group.Limits))];
        foreach ((string name, JsonValue _) in All(group.Limits))
        {
            properties.Add(new ObjectProperty("x-" + name, "int", () => All(group.Limits)[name]));
        }

        return properties;
    }

    private static JsonObject All(ThrottleLimits limits)
    {
        JsonObject all = new() { ["iops-size"] = limits.IopsSize };
        foreach (string name in s_limits)
        {
            ThrottleLimit limit = Of(limits, name);
            all[name] = limit.Average;
            all[name + "-max"] = limit.Max;
            all[name + "-max-length"] = limit.MaxLength;
        }

        return all;
    }

    private static ThrottleLimit Of(ThrottleLimits limits, string name) => name switch
    {
        "iops-total" => limits.IopsTotal,
        "iops-read" => limits.IopsRead,
        "iops-write" => limits.IopsWrite,
        "bps-total" => limits.BpsTotal,
        "bps-read" => limits.BpsRead,
        _ => limits.BpsWrite,
    };
}
