using BlockMount.Control.Json;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Hmp;

/// <summary>Lines about the NBD server.</summary>
internal static class HmpExportCommands
{
    internal static IEnumerable<HmpCommand> Lines(HmpMonitor monitor)
    {
        yield return new HmpCommand(
            ["nbd_server_start"], "[-a] [-w] host:port|path", "serve NBD clients; -a every device, -w writable",
            [HmpParameter.Flag("a"), HmpParameter.Flag("w"), new HmpParameter("address", HmpParameterKind.Text)], arguments => StartAsync(monitor, arguments));
        yield return new HmpCommand(
            ["nbd_server_add"], "[-w] device [name]", "serve a device to NBD clients",
            [HmpParameter.Flag("w"), new HmpParameter("device", HmpParameterKind.Device), new HmpParameter("name", HmpParameterKind.Text, Optional: true)],
            arguments =>
            {
                JsonObject command = new() { ["device"] = arguments.Text("device")!, ["writable"] = arguments.Has("w") };
                if (arguments.Text("name") is { } name)
                {
                    command["name"] = name;
                }

                return monitor.QuietAsync("nbd-server-add", command);
            });
        yield return new HmpCommand(
            ["nbd_server_remove"], "[-f] name", "end such an export; -f although clients are connected",
            [HmpParameter.Flag("f"), new HmpParameter("name", HmpParameterKind.Text)],
            arguments => monitor.QuietAsync("nbd-server-remove", new JsonObject
            {
                ["name"] = arguments.Text("name")!,
                ["mode"] = arguments.Has("f") ? "hard" : "safe",
            }));
        yield return new HmpCommand(["nbd_server_stop"], "", "end the NBD server", [], _ => monitor.QuietAsync("nbd-server-stop"));
    }

    private static async ValueTask<string> StartAsync(HmpMonitor monitor, HmpArguments arguments)
    {
        if (arguments.Has("w") && !arguments.Has("a"))
        {
            throw new CommandException("-w only valid together with -a");
        }

        _ = await monitor.ExecuteAsync("nbd-server-start", new JsonObject { ["addr"] = Address(arguments.Text("address")!) });
        if (arguments.Has("a"))
        {
            await AddAllAsync(monitor, arguments.Has("w"));
        }

        return "";
    }

    // All or none: a server that serves some of the devices is not what was asked for.
    private static async ValueTask AddAllAsync(HmpMonitor monitor, bool writable)
    {
        try
        {
            foreach (JsonObject device in ((JsonList)await monitor.ExecuteAsync("query-block")).Cast<JsonObject>())
            {
                _ = await monitor.ExecuteAsync("nbd-server-add", new JsonObject { ["device"] = device.Text("device")!, ["writable"] = writable });
            }
        }
        catch (CommandException)
        {
            _ = await monitor.ExecuteAsync("nbd-server-stop");
            throw;
        }
    }

    private static JsonObject Address(string text)
    {
        if (text.StartsWith("unix:", StringComparison.Ordinal) || text.Contains('/', StringComparison.Ordinal))
        {
            string path = text.StartsWith("unix:", StringComparison.Ordinal) ? text["unix:".Length..] : text;
            return new JsonObject { ["type"] = "unix", ["data"] = new JsonObject { ["path"] = path } };
        }

        int colon = text.LastIndexOf(':');
        if (colon < 0)
        {
            throw new CommandException($"error parsing address '{text}'");
        }

        return new JsonObject
        {
            ["type"] = "inet",
            ["data"] = new JsonObject { ["host"] = text[..colon].Trim('[', ']'), ["port"] = text[(colon + 1)..] },
        };
    }
}
