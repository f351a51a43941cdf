using BlockMount.Control.Json;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Qmp;

/// <summary>One input of a client: a command to carry out, or what is wrong with it. Immutable.</summary>
/// <param name="Id">Comes back with the answer; null if there was none.</param>
/// <param name="Command">Null if <paramref name="Error"/> is set.</param>
internal sealed record QmpRequest(JsonValue? Id, string? Command, JsonObject Arguments, bool OutOfBand, string? Error)
{
    /// <summary>Input that is no JSON.</summary>
    public static QmpRequest Bad(string error, JsonValue? id = null) => new(id, null, new JsonObject(), OutOfBand: false, error);

    /// <summary>Takes a message apart.</summary>
    /// <param name="outOfBand">The client has negotiated out-of-band commands.</param>
    public static QmpRequest Of(JsonValue message, bool outOfBand)
    {
        if (message is not JsonObject members)
        {
            return Bad("QMP input must be a JSON object");
        }

        _ = members.TryGet("id", out JsonValue? id);
        return Fault(members, outOfBand) is { } fault
            ? Bad(fault, id)
            : new QmpRequest(
                id, members.Text("execute") ?? members.Text("exec-oob"), members.Object("arguments") ?? new JsonObject(), members.Contains("exec-oob"), null);
    }

    private static string? Fault(JsonObject members, bool outOfBand)
    {
        string? command = null;
        foreach ((string name, JsonValue value) in members)
        {
            switch (name)
            {
                case "execute":
                case "exec-oob" when outOfBand:
                    if (value is not JsonString)
                    {
                        return $"QMP input member '{name}' must be a string";
                    }

                    if (command is not null)
                    {
                        return "QMP input member 'execute' clashes with 'exec-oob'";
                    }

                    command = name;
                    break;
                case "arguments" when value is not JsonObject:
                    return "QMP input member 'arguments' must be an object";
                case "arguments" or "id":
                    break;
                default:
                    return $"QMP input member '{name}' is unexpected";
            }
        }

        return command is null ? "QMP input lacks member 'execute'" : null;
    }

    /// <summary>The answer of a command that succeeded.</summary>
    public JsonObject Success(JsonValue result)
    {
        JsonObject answer = new() { ["return"] = result };
        answer.SetOptional("id", Id);
        return answer;
    }

    /// <summary>The answer of one that failed.</summary>
    public JsonObject Failure(CommandException error)
    {
        JsonObject answer = new();
        answer.SetOptional("id", Id);
        answer["error"] = new JsonObject { ["class"] = error.ErrorClass, ["desc"] = error.Message };
        return answer;
    }
}
