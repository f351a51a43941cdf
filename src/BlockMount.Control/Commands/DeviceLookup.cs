using BlockMount.Block.Devices;
using BlockMount.Control.Json;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Commands;

/// <summary>Finds what a command names, with QEMU's texts. Devices and nodes share their names: either serves.</summary>
internal sealed class DeviceLookup
{
    private readonly IMonitorHost _host;

    internal DeviceLookup(IMonitorHost host) => _host = host;

    /// <summary>The device that 'device' or 'node-name' names, or whose active layer it is.</summary>
    /// <exception cref="CommandException">There is none.</exception>
    internal BlockDevice Get(JsonObject arguments)
    {
        string device = arguments.Text("device") ?? "";
        string node = arguments.Text("node-name") ?? "";
        return Find(device) ?? Find(node) ?? throw NotFound(device, node);
    }

    /// <summary>The device of that name, or whose active layer has it.</summary>
    /// <exception cref="CommandException">There is none.</exception>
    internal BlockDevice Get(string name) => Find(name) ?? throw NotFound(name, name);

    private BlockDevice? Find(string name) =>
        name.Length == 0 ? null : _host.Devices.FirstOrDefault(device => device.Name == name || device.Root.Name == name);

    private static CommandException NotFound(string device, string node) => new($"Cannot find device='{device}' nor node-name='{node}'");
}
