using BlockMount.Base;
using BlockMount.Control;
using BlockMount.Control.Json;
using BlockMount.Control.Schema;

namespace BlockMount.Daemon.Storage;

/// <summary>Carries the options of 'blockmount daemon' out, one after the other: most are a monitor's command in another form. Not thread-safe.</summary>
internal sealed class StorageOptions(ControlMonitor monitor, ChannelTable channels)
{
    /// <summary>Carries an option out.</summary>
    /// <exception cref="BlockMountException">It does not fit, or failed. The message begins with the option as it was written.</exception>
    public async ValueTask ApplyAsync(OptionWord option, CancellationToken cancel)
    {
        try
        {
            await ApplyInsideAsync(option, cancel);
        }
        catch (Exception error) when (error is CommandException or BlockMountException)
        {
            string? hint = ((error as BlockMountException) ?? (error.InnerException as BlockMountException))?.Hint;
            throw new BlockMountException($"{option.Written}: {error.Message}", hint, error);
        }
    }

    private async ValueTask ApplyInsideAsync(OptionWord option, CancellationToken cancel)
    {
        switch (option.Name)
        {
            case "blockdev":
                _ = await CommandAsync("blockdev-add", "BlockdevOptions", option.Value, "driver");
                break;
            case "export":
                _ = await CommandAsync("block-export-add", "BlockExportOptions", option.Value, "type");
                break;
            case "object":
                _ = await CommandAsync("object-add", "ObjectOptions", option.Value, "qom-type");
                break;
            case "nbd-server":
                _ = await monitor.Commands.ExecuteAsync("nbd-server-start", ServerArguments(option.Value));
                break;
            case "chardev":
                await channels.AddAsync(option.Value, cancel);
                break;
            case "monitor":
                AttachMonitor(Keyval.ParseAs(TypeOf("MonitorOptions"), option.Value, "chardev"));
                break;
            default:
                throw new BlockMountException("Unexpected argument");
        }
    }

    private static SchemaType TypeOf(string name) => CommandSchema.Own.Types[name];

    private ValueTask<JsonValue> CommandAsync(string command, string type, string text, string impliedKey) =>
        monitor.Commands.ExecuteAsync(command, Keyval.ParseAs(TypeOf(type), text, impliedKey));

    // The option's addresses are flat, the command's have the members of each kind in an object of their own.
    private static JsonObject ServerArguments(string text)
    {
        JsonObject options = Keyval.ParseAs(TypeOf("NbdServerOptions"), text, impliedKey: null);
        JsonObject address = new();
        JsonObject arguments = new() { ["addr"] = new JsonObject { ["type"] = options.Object("addr")!["type"], ["data"] = address } };
        foreach ((string name, JsonValue value) in options.Object("addr")!)
        {
            if (name != "type")
            {
                address[name] = value;
            }
        }

        foreach ((string name, JsonValue value) in options)
        {
            if (name != "addr")
            {
                arguments[name] = value;
            }
        }

        return arguments;
    }

    private void AttachMonitor(JsonObject options)
    {
        bool pretty = options.Flag("pretty") == true;
        channels.Get(options.Text("chardev")!).Attach(options.Text("mode") == "readline"
            ? monitor.RunHmpAsync
            : (stream, cancel) => monitor.RunQmpAsync(stream, cancel, pretty));
    }
}
