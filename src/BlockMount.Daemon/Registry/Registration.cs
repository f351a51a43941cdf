namespace BlockMount.Daemon.Registry;

/// <summary>A daemon's own entry, published and locked from construction to disposal.</summary>
internal sealed class Registration : IDisposable
{
    private readonly string _path;
    private readonly uint _mode;
    private EntryFile _file;

    /// <summary>Publishes <paramref name="entry"/> under <paramref name="path"/>.</summary>
    public Registration(string path, RegistryEntry entry, uint mode)
    {
        _path = path;
        _mode = mode;
        Entry = entry;
        _file = EntryFile.Publish(path, entry, mode);
    }

    /// <summary>As published last.</summary>
    public RegistryEntry Entry { get; private set; }

    /// <summary>Publishes a changed entry. The old file's lock is given back only after the new one is in place.</summary>
    public void Update(RegistryEntry entry)
    {
        EntryFile old = _file;
        _file = EntryFile.Publish(_path, entry, _mode);
        Entry = entry;
        old.Dispose();
    }

    /// <summary>
    /// Ends the entry: gone after a clean end, left behind with <paramref name="closeError"/> for 'umount' to tell otherwise.
    /// To be called last, when image locks and mount are gone.
    /// </summary>
    public void End(string? closeError)
    {
        if (closeError is null)
        {
            File.Delete(_path);
        }
        else
        {
            Update(Entry with { CloseError = closeError });
        }
    }

    /// <summary>Gives the lock back: from now on the daemon counts as dead.</summary>
    public void Dispose() => _file.Dispose();
}
