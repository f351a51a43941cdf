namespace BlockMount.Bench.Loads;

/// <summary>Who serves a disk. Each is a column of the tables.</summary>
internal enum Contender
{
    /// <summary>The release binary.</summary>
    BlockMount,

    /// <summary>Debian's qemu-storage-daemon for files, Debian's qemu-nbd for NBD: what the goals are relative to.</summary>
    Qemu,

    /// <summary>The storage daemon that QEMU_STORAGE_DAEMON2 names, for files and for NBD.</summary>
    NewerQemu,

    /// <summary>nbdkit's file plugin on a raw file with the same content; NBD only.</summary>
    Nbdkit,

    /// <summary>No server at all: the load runs on a raw file with the same content.</summary>
    NativeFile,
}

/// <summary>What a contender can do.</summary>
internal static class Contenders
{
    /// <summary>Reads the image itself; the others get its bytes as a raw file.</summary>
    public static bool ServesQcow2(this Contender contender) => contender is Contender.BlockMount or Contender.Qemu or Contender.NewerQemu;
}
