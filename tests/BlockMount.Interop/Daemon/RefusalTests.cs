using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Daemon;

/// <summary>Command lines that qemu-storage-daemon refuses: refused here with its words and its exit code, and nothing is left behind.</summary>
public sealed class RefusalTests
{
    private const string File = "--blockdev|file,node-name=f,filename={dir}/a.raw|";
    private const string Server = "--nbd-server|addr.type=unix,addr.path={dir}/s|";
    private const string Socket = "--chardev|socket,id=c,path={dir}/m,server=on,wait=off|";

    [RequiresTheory(Needs.Release, "qemu-storage-daemon")]
    [InlineData("--bogus")]
    [InlineData("extra")]
    [InlineData("--blockdev")]
    [InlineData("--daemonize=x")]
    [InlineData("-x")]
    [InlineData("--blockdev|nope|--bogus")]
    [InlineData("--blockdev|nope|extra")]
    [InlineData("--block=nope")]
    [InlineData("--blockdev|file,node-name=f")]
    [InlineData("--blockdev|file,node-name=f,filename={dir}/nofile")]
    [InlineData("--blockdev|file,filename={dir}/a.raw")]
    [InlineData("--blockdev|{\"driver\":\"file\",\"node-name\":\"f\"}")]
    [InlineData("--blockdev|{\"driver\":")]
    [InlineData("--blockdev|help")]
    [InlineData(File + "--blockdev|file,node-name=f,filename={dir}/a.raw")]
    [InlineData("--blockdev|qcow2,node-name=q,file=zz")]
    [InlineData(File + "--export|nbd,id=e,node-name=f")]
    [InlineData(File + "--export|nope,id=e,node-name=f")]
    [InlineData(File + "--export|nbd,id=9e,node-name=f")]
    [InlineData(File + Server + "--export|nbd,id=e,node-name=g")]
    [InlineData(File + Server + "--export|nbd,id=e,node-name=f|--export|nbd,id=e,node-name=f")]
    [InlineData(File + Server + "--export|nbd,id=e,node-name=f|--export|nbd,id=e2,node-name=f")]
    [InlineData(File + Server + "--export|nbd,id=e,node-name=f,iothread=nope")]
    [InlineData("--blockdev|file,node-name=f,filename={dir}/a.raw,read-only=on|" + Server + "--export|nbd,id=e,node-name=f,writable=on")]
    [InlineData(File + "--export|fuse,id=e,node-name=f,mountpoint={dir}/nofile")]
    [InlineData(File + "--export|fuse,id=e,node-name=f,mountpoint={dir}")]
    [InlineData(File + "--export|fuse,id=e,node-name=f")]
    [InlineData(Server + "--nbd-server|addr.type=unix,addr.path={dir}/s2")]
    [InlineData("--nbd-server|addr.type=inet,addr.host=127.0.0.1")]
    [InlineData("--nbd-server|addr.type=inet,addr.host=127.0.0.1,addr.port=abc")]
    [InlineData("--nbd-server|unix,path=x")]
    [InlineData("--nbd-server|addr.type=unix,addr.path={dir}/s,tls-creds=nope")]
    [InlineData("--monitor|nope")]
    [InlineData("--monitor|chardev=c,pretty")]
    [InlineData(Socket + "--monitor|c,mode=bad")]
    [InlineData(Socket + "--monitor|c|--monitor|c")]
    [InlineData(Socket + "--chardev|stdio,id=c")]
    [InlineData("--chardev|stdio")]
    [InlineData("--chardev|nope,id=c")]
    [InlineData("--chardev|socket,id=c,path={dir}/m,bogus=1")]
    [InlineData("--chardev|socket,id=c,path={dir}/m,server=on,wait=maybe")]
    [InlineData("--chardev|socket,id=c,path={dir}/m,wait=off")]
    [InlineData("--chardev|socket,id=c,path={dir}/nosock")]
    [InlineData("--daemonize|--chardev|stdio,id=c")]
    [InlineData("--object|secret,id=s")]
    [InlineData("--object|secret,id=s,data=x,file=y")]
    [InlineData("--object|secret,id=s,file={dir}/nofile")]
    [InlineData("--object|nope,id=s")]
    [InlineData("--object|secret,id=9s,data=x")]
    [InlineData("--object|secret,id=s,data=x|--object|secret,id=s,data=y")]
    [InlineData("--object|secret,id=s,data=x,bogus=1")]
    [InlineData("--object|throttle-group,id=t,limits.bps-total=10,limits.bps-read=5")]
    [InlineData("--object|throttle-group,id=t,limits.bps-total=100k")]
    [InlineData("--object|iothread,id=i,poll-max-ns=-1")]
    [InlineData("--object|iothread,id=i,thread-pool-max=0")]
    [InlineData("--pidfile|{dir}/no/pid")]
    [InlineData(File + "--pidfile")]
    public async Task IsRefusedInTheSameWords(string line)
    {
        string[] options = line.Split('|', StringSplitOptions.RemoveEmptyEntries);
        using StorageDaemon ours = new(ours: true);
        using StorageDaemon theirs = new(ours: false);
        (ToolResult result, ToolResult expected) = (await RunAsync(ours, options), await RunAsync(theirs, options));
        Assert.Equal(theirs.FirstLine(expected), ours.FirstLine(result));
        Assert.Equal(expected.ExitCode, result.ExitCode);
        Assert.Equal(["a.raw"], Directory.GetFileSystemEntries(ours[""]).Select(Path.GetFileName));
    }

    private static async Task<ToolResult> RunAsync(StorageDaemon daemon, string[] options)
    {
        await System.IO.File.WriteAllBytesAsync(daemon["a.raw"], new byte[1 << 20]);
        return await daemon.RunAsync(options);
    }
}
