namespace BlockMount.Storage;

/// <summary>Makes files that get their names only when they are complete (FEATURES N5).</summary>
public interface IStorageCreator
{
    /// <summary>
    /// Makes an empty file that will be called <paramref name="path"/>. A file of that name that exists must not be in use; it stays as it is until it is replaced.
    /// </summary>
    /// <param name="options">How the new file is opened; not read-only.</param>
    /// <exception cref="Base.BlockMountException">It cannot be made, or what it would replace is in use.</exception>
    public ValueTask<NewFile> CreateAsync(string path, StorageOpenOptions options);
}

/// <summary>A file on its way to its name. Used by one caller at a time; ends with <see cref="DisposeAsync"/>, which leaves nothing behind unless it was published.</summary>
public abstract class NewFile : IAsyncDisposable
{
    /// <summary>The file, open. It belongs to the caller, who closes it before disposing this.</summary>
    public abstract StorageFile File { get; }

    /// <summary>Gives the file its name, which is on stable storage when the task completes; what is in it is for the caller to flush before.</summary>
    public abstract ValueTask PublishAsync();

    /// <summary>Takes the name back. A file that was replaced has it again, unless the file system cannot exchange names; then the new one stays.</summary>
    public abstract ValueTask WithdrawAsync();

    /// <summary>Removes the file if it was not published.</summary>
    public abstract ValueTask DisposeAsync();
}
