using BlockMount.Daemon.Cli;
using BlockMount.Daemon.Hosting;

namespace BlockMount.Daemon.Storage;

/// <summary>The verb 'daemon': qemu-storage-daemon's command line.</summary>
internal static class StorageCommand
{
    /// <summary>The verb.</summary>
    public const string Verb = "daemon";

    private const string Help = """
        Usage: blockmount daemon [options]
        Serves block nodes with qemu-storage-daemon's command line: options are
        carried out in their order, so what one needs must stand before it.

          -h, --help             show this help and exit
          -V, --version          show the version and exit

          --blockdev [driver=]DRIVER,node-name=NAME[,read-only=on|off]
                     [,discard=ignore|unmap][,detect-zeroes=on|off|unmap]
                     [,cache.direct=on|off][,cache.no-flush=on|off]
                     [,auto-read-only=on|off][,force-share=on|off][,...]
                                 open a node (file, host_device, qcow2, raw,
                                 null-co, throttle, copy-on-read, blkdebug)
          --nbd-server addr.type=unix,addr.path=PATH[,max-connections=N]
          --nbd-server addr.type=inet,addr.host=HOST,addr.port=PORT[,...]
                                 listen for NBD clients
          --export [type=]nbd,id=ID,node-name=NODE[,name=EXPORT]
                   [,description=TEXT][,writable=on|off]
                                 serve a node over NBD
          --export [type=]fuse,id=ID,node-name=NODE,mountpoint=FILE
                   [,growable=on|off][,writable=on|off]
                   [,allow-other=on|off|auto]
                                 show a node as a file; FILE must exist
                                 (ID is a device name for monitors, too)
          --chardev socket,id=ID,path=PATH,server=on[,wait=off]
          --chardev socket,id=ID,host=HOST,port=PORT,server=on[,wait=off]
          --chardev stdio,id=ID
                                 where a monitor meets its clients
          --monitor [chardev=]ID[,mode=control|readline][,pretty=on|off]
                                 a monitor: QMP, or lines for people (readline)
          --object secret,id=ID,data=TEXT|file=PATH[,format=raw|base64]
          --object throttle-group,id=ID[,limits.bps-total=N][,...]
          --object iothread,id=ID
                                 make an object; 'help' lists their kinds
          --daemonize            go into the background once everything is ready
          --pidfile PATH         write the process's number there, once ready

        --blockdev, --export, --monitor, --nbd-server and --object also take JSON.
        quit (QMP), SIGTERM and SIGINT end the daemon: exports are closed, all is
        flushed, locks are released, sockets and pidfile removed.

        Exit status: 0 done, 1 failed.
        """;

    /// <summary>Carries the command line out.</summary>
    /// <param name="words">What stands behind the verb.</param>
    /// <param name="ready">Present in the daemon that a command started in the background.</param>
    /// <returns>The exit code.</returns>
    public static int Run(string[] words, ReadyNotification? ready)
    {
        StorageRequest request = StorageRequest.Parse(words);
        switch (request.Question)
        {
            case "help":
                Console.Out.WriteLine(Help);
                return ExitCodes.Success;
            case "version":
                Console.Out.WriteLine($"blockmount {CommandLine.Version}");
                return ExitCodes.Success;
        }

        if (request.Options.Select(ObjectHelp.TextFor).FirstOrDefault(text => text is not null) is { } help)
        {
            Console.Out.WriteLine(help);
            return ExitCodes.Success;
        }

        return StorageHost.RunAsync(request, ready).GetAwaiter().GetResult();
    }
}
