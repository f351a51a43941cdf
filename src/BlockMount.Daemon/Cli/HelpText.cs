namespace BlockMount.Daemon.Cli;

/// <summary>The text of 'blockmount --help': grouped, under 80 columns, examples first to be found.</summary>
internal static class HelpText
{
    public const string Usage = """
        Usage: blockmount IMAGE MOUNTPOINT [-o OPTIONS] [--read-only] [--nbd ADDRESS]
               blockmount IMAGE --nbd ADDRESS          serve over NBD only
               blockmount daemon OPTIONS               as qemu-storage-daemon
               blockmount umount MOUNTPOINT|ID
               blockmount ls [--json]
               blockmount create [-f FORMAT] [-b BACKING -F FORMAT] FILE [SIZE]
               blockmount resize [-f FORMAT] [--shrink] FILE [+|-]SIZE
               blockmount amend -o NAME=VALUE[,...] FILE
               blockmount bitmap --add|--remove|--clear|--enable|--disable FILE BITMAP
               blockmount info [--backing-chain] [--output json] FILE
               blockmount snapshot [-l | -a NAME | -c NAME | -d NAME] IMAGE
               blockmount check [-r leaks|all] [--output json] IMAGE
        """;

    public const string Full = """
        blockmount shows a disk image (qcow2 or raw, with all its backing files) as
        one flat file, and serves it over NBD.

        """ + "\n" + Usage + "\n" + """

        Serving:
          IMAGE                 the active layer; its backing files are found by name
          MOUNTPOINT            a file, made if missing, that shows the disk's bytes
          -f, --format FORMAT   qcow2 or raw; detected when not given
          --read-only           refuse writes (the same as -o ro)
          --nbd ADDRESS         serve NBD at unix:PATH, HOST:PORT or :PORT (loopback)
          --export-name NAME    name that NBD clients ask for (default: empty)
          --qmp ADDRESS         take QMP commands at PATH or tcp:HOST:PORT
          --monitor ADDRESS     take commands of people there, or here: stdio
          --id NAME             name in 'blockmount ls' (default: from the image), and
                                of the device for monitors (default: drive0)
          --foreground          stay in this terminal; Ctrl-C unmounts
          --log-file PATH       append the daemon's log to PATH
          --verbose             log debug messages too

        Options for -o, separated by commas:
          ro, rw                read-only or writable (default: rw)
          growable              writes past the end enlarge the disk
          allow_other[=WHEN]    other users may use the file: on, off, auto (default)
          uid=N, gid=N          owner and group of the file shown
          mode=OCT, umask=OCT   permission bits of the file shown
          discard=WHAT          unmap (default): discards and zeroes free host space;
                                ignore: they do not
          share_rw              let others write the image meanwhile (mind what you do)
          cache=MODE            writeback (default), none (O_DIRECT), unsafe (no flush)
          cache.direct=on|off   bypass the host's page cache
          cache.no-flush=on|off do not pass flushes on; a power cut may cost everything
          aio=ENGINE            what waits for the disk: io_uring, threads or auto
                                (default)
          workers=N             FUSE worker threads (default: by processors)
          transport=WHICH       how requests come from the kernel: uring, dev or auto
                                (default: uring where fuse.enable_uring is on)
          passthrough=on|off    let the kernel read a raw read-only image by itself
                                (default: on, where it can)
          snapshot=NAME         show an internal snapshot (by id or name); needs ro
          backing_format=FMT    format of a backing file whose image names none
          data_file=PATH        the image's data file, instead of the one it names
          cache-size=SIZE       memory for cached metadata of the chain (64M)
          l2-cache-size=, l2-cache-entry-size=, refcount-cache-size=,
          cache-clean-interval=, lazy-refcounts=, pass-discard-request=,
          pass-discard-snapshot=, pass-discard-other=, discard-no-unref=,
          overlap-check=        as QEMU's qcow2 driver has them

        Other commands ('blockmount COMMAND --help' tells more):
          umount                unmount; returns when all is flushed and unlocked
          ls                    running daemons
          create, resize, info  make, resize and describe images, with qemu-img's
                                options
          amend, bitmap         change an image's version, refcounts and other
                                properties; change its persistent bitmaps
          check                 check and repair images; a repair can be undone
          snapshot              internal snapshots, with qemu-img's options
          qmp, monitor          talk to the monitor of a running daemon
          daemon                serve with qemu-storage-daemon's command line

        Examples:
          blockmount vm.qcow2 /mnt/vm.img
          losetup --find --show /mnt/vm.img
          blockmount vm.qcow2 /mnt/vm.img -o ro,allow_other
          blockmount vm.qcow2 --nbd unix:/run/vm.sock
          blockmount umount /mnt/vm.img

        Exit status: 0 done, 1 failed, 2 wrong command line.
        """;
}
