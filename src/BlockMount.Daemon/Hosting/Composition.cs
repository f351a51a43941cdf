using System.CommandLine;
using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Daemon.Cli;
using BlockMount.Exports;
using BlockMount.Exports.Fuse;
using Microsoft.Extensions.Logging;

namespace BlockMount.Daemon.Hosting;

/// <summary>
/// The one place that picks implementations: which files, formats and exports the program consists of. Plain code instead
/// of a container.
/// </summary>
internal static class Composition
{
    /// <summary>Verbs about images, made by their own files.</summary>
    public static IEnumerable<Command> ImageCommands() => [];

    /// <summary>Opens the image and everything it stands on.</summary>
    public static ValueTask<Node> OpenChainAsync(MountRequest request) =>
        throw new BlockMountException($"could not open '{request.Image}': this build has no storage");

    /// <summary>Serves the device over NBD; returns the server and the URI of its export.</summary>
    public static ValueTask<(Export Server, string Uri)> ServeNbdAsync(MountRequest request, BlockDevice device, bool writable, ILogger log) =>
        throw new BlockMountException("this build has no NBD server");

    /// <summary>Shows the device as a file.</summary>
    public static ValueTask<Export> MountAsync(BlockDevice device, FuseExportOptions options, ILogger log) =>
        throw new BlockMountException("this build has no FUSE export");

    /// <summary>Detaches a mount of ours whose daemon died.</summary>
    public static void ClearStaleMount(string path) => LibcProcess.umount2(path, LibcProcess.MNT_DETACH);
}
