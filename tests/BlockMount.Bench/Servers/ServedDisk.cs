namespace BlockMount.Bench.Servers;

/// <summary>A disk that one of the contenders serves, until it is disposed.</summary>
internal abstract class ServedDisk(int? pid, string address) : IAsyncDisposable
{
    /// <summary>The serving process; null for a file that nobody serves.</summary>
    public int? Pid { get; } = pid;

    /// <summary>A path, or an NBD URI.</summary>
    public string Address { get; } = address;

    /// <summary>From exec to the first answer to a read, for a disk that is served as a file.</summary>
    public TimeSpan AnsweredAfter { get; protected init; }

    /// <summary>Stops serving. When it returns, the process has ended and nothing is mounted.</summary>
    public abstract ValueTask DisposeAsync();

    /// <summary>Reads the first sector of a served file, past the page cache's read-ahead.</summary>
    protected static async Task ReadOnceAsync(string path)
    {
        await using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        await file.ReadExactlyAsync(new byte[512]);
    }
}

/// <summary>No server: a raw file as it is. Deleted in the end when it was made for one run.</summary>
internal sealed class NativeFile(string path, bool temporary) : ServedDisk(null, path)
{
    public override ValueTask DisposeAsync()
    {
        if (temporary)
        {
            File.Delete(Address);
        }

        return ValueTask.CompletedTask;
    }
}
