using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Control.DiskTool;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Hmp;

/// <summary>The line that lets the disk tool work on a device or a node.</summary>
internal static class HmpDiskCommand
{
    internal static HmpCommand Line(ControlLoop control) => new(
        ["qemu-io"], "[-d] device \"command\"", "read and write a disk, for tests; the command 'help' tells more",
        [HmpParameter.Flag("d"), new HmpParameter("device", HmpParameterKind.Device), new HmpParameter("command", HmpParameterKind.Text)],
        arguments => RunAsync(control, arguments));

    private static async ValueTask<string> RunAsync(ControlLoop control, HmpArguments arguments)
    {
        string name = arguments.Text("device")!;
        string line = arguments.Text("command")!;
        (BlockDevice? device, Node node) = await control.RunAsync(scope => new ValueTask<(BlockDevice?, Node)>(Find(scope, name, onlyDevice: arguments.Has("d"))));
        if (device is { IsFrozen: false })
        {
            return await DiskToolRunner.RunAsync(new DeviceToolTarget(control, device), line);
        }

        // Writes to a frozen device would wait, and with them the command that thaws it.
        return await control.RunAsync(async scope =>
        {
            if (scope.Graph.TryFindNode(node.Name) != node)
            {
                throw new CommandException($"Cannot find device='' nor node-name='{name}'");
            }

            using DrainedSection drained = await DrainedSection.BeginAsync(scope, [node]);
            return await DiskToolRunner.RunAsync(new NodeToolTarget(scope, node), line);
        });
    }

    private static (BlockDevice? Device, Node Node) Find(ControlScope scope, string name, bool onlyDevice)
    {
        BlockDevice? device = scope.Graph.TryFindDevice(name);
        Node? node = device?.Root ?? (onlyDevice ? null : scope.Graph.TryFindNode(name));
        return node is not null
            ? (device, node)
            : throw new CommandException(onlyDevice ? $"Device '{name}' not found" : $"Cannot find device='' nor node-name='{name}'");
    }
}
