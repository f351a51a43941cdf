using System.CommandLine;
using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Daemon.Cli;
using BlockMount.Exports;
using BlockMount.Exports.Fuse;
using BlockMount.Exports.Nbd;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.Repair;
using BlockMount.Storage;
using Microsoft.Extensions.Logging;

namespace BlockMount.Daemon.Hosting;

/// <summary>
/// The one place that picks implementations: which files, formats and exports the program consists of. Plain code instead
/// of a container.
/// </summary>
internal static class Composition
{
    /// <summary>Verbs about images, made by their own files.</summary>
    public static IEnumerable<Command> ImageCommands() =>
        [
            CreateCommand.Build(PosixStorage.Instance),
            ResizeCommand.Build(PosixStorage.Instance),
            AmendCommand.Build(PosixStorage.Instance),
            BitmapCommand.Build(PosixStorage.Instance),
            InfoCommand.Build(PosixStorage.Instance),
            CheckCommand.Build(PosixStorage.Instance),
            SnapshotCommand.Build(PosixStorage.Instance),
        ];

    private static readonly OpenPolicy s_policy = new();

    /// <summary>A graph without nodes, over the files of the host.</summary>
    /// <param name="onLeftover">Told of what could not be closed cleanly after a change.</param>
    /// <param name="onCorruption">Told when an image that a command opened is found damaged while it is in use.</param>
    public static NodeGraph NewGraph(Action<Exception> onLeftover, Action<CorruptionReport> onCorruption) =>
        new(PosixStorage.Instance, s_policy) { OnLeftover = onLeftover, OnCorruption = onCorruption };

    /// <summary>Opens the image and everything it stands on; the caller owns the node.</summary>
    /// <param name="onCorruption">Told when an image is found damaged while it is in use.</param>
    public static ValueTask<Node> OpenChainAsync(MountRequest request, Action<CorruptionReport> onCorruption)
    {
        MountOptions options = request.Options;
        return new ChainOpener(PosixStorage.Instance, s_policy).OpenAsync(request.Image, new ChainOpenOptions
        {
            Format = request.Format,
            BackingFormatDefault = options.BackingFormat,
            DataFile = options.DataFile,
            ReadOnly = options.ReadOnly,
            RepairDirty = ImageRepair.RepairDirtyAsync,
            Direct = options.Direct,
            NoFlush = options.NoFlush,
            Engine = options.Engine,
            ShareWrite = options.ShareWrite,
            DiscardToHost = options.Discard,
            Snapshot = options.Snapshot,
            OnCorruption = onCorruption,
            Qcow2 = options.Qcow2,
        });
    }

    /// <summary>Listens for NBD clients and offers them the device; returns the server, the export and its URI.</summary>
    public static async ValueTask<(NbdServer Server, Export Export, string Uri)> ServeNbdAsync(MountRequest request, BlockDevice device, ILogger log)
    {
        NbdServer server = await NbdServer.StartAsync(new NbdServerOptions { EndPoint = request.Nbd! }, log);
        try
        {
            Export export = server.AddExport(request.ExportName, device, !device.ReadOnly, request.Image);
            return (server, export, server.UriFor(request.ExportName));
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>Shows the device as a file.</summary>
    public static async ValueTask<Export> MountAsync(BlockDevice device, FuseExportOptions options, ILogger log) =>
        await FuseExport.StartAsync(device, options, log);
}
