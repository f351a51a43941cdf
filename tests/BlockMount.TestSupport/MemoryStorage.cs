using BlockMount.Base;
using BlockMount.Storage;

namespace BlockMount.TestSupport;

/// <summary>
/// Files in memory by their names, in the place of a host's. They are looked up, opened again, and created under a temporary name, as real ones are, but have no locks. Thread-safe.
/// </summary>
public sealed class MemoryStorage : IStorageOpener, IStorageCreator
{
    private readonly Lock _gate = new();
    private readonly Dictionary<string, MemoryFile> _files = [];
    private readonly List<MemoryFile> _handles = [];

    /// <summary>Stands between every handle and its user; null for nothing.</summary>
    public Func<string, MemoryFile, StorageFile>? Wrap { get; init; }

    /// <summary>Called when a file gets its name.</summary>
    public Action<string>? Published { get; init; }

    /// <summary>Names of the files there are.</summary>
    public IReadOnlyList<string> Names
    {
        get
        {
            lock (_gate)
            {
                return [.. _files.Keys.Order(StringComparer.Ordinal)];
            }
        }
    }

    /// <summary>Handles that were given out and not closed.</summary>
    public int OpenHandles
    {
        get
        {
            lock (_gate)
            {
                return _handles.Count(handle => !handle.IsDisposed);
            }
        }
    }

    /// <summary>Puts a file there.</summary>
    public void Add(string name, MemoryFile file)
    {
        lock (_gate)
        {
            _files[name] = file;
        }
    }

    /// <summary>Removes the files that are not in <paramref name="names"/>.</summary>
    public void Keep(IReadOnlyCollection<string> names)
    {
        lock (_gate)
        {
            foreach (string name in _files.Keys.Except(names).ToArray())
            {
                _ = _files.Remove(name);
            }
        }
    }

    /// <summary>The content of a file.</summary>
    public MemoryFile this[string name]
    {
        get
        {
            lock (_gate)
            {
                return _files[name];
            }
        }
    }

    /// <inheritdoc/>
    public ValueTask<StorageFile> OpenAsync(string path, StorageOpenOptions options)
    {
        lock (_gate)
        {
            return _files.TryGetValue(path, out MemoryFile? file)
                ? new ValueTask<StorageFile>(HandleLocked(path, file, options.ReadOnly))
                : throw new BlockMountException($"Could not open '{path}': No such file or directory");
        }
    }

    /// <inheritdoc/>
    public ValueTask<NewFile> CreateAsync(string path, StorageOpenOptions options)
    {
        lock (_gate)
        {
            MemoryFile content = new(path);
            return new ValueTask<NewFile>(new Pending(this, path, content, HandleLocked(path, content, readOnly: false)));
        }
    }

    private StorageFile HandleLocked(string path, MemoryFile file, bool readOnly)
    {
        _ = _handles.RemoveAll(other => other.IsDisposed);
        MemoryFile handle = file.Reopen(readOnly);
        _handles.Add(handle);
        return Wrap?.Invoke(path, handle) ?? handle;
    }

    private sealed class Pending(MemoryStorage owner, string path, MemoryFile content, StorageFile file) : NewFile
    {
        // What had the name before; null if it was free.
        private MemoryFile? _replaced;

        public override StorageFile File => file;

        public override ValueTask PublishAsync()
        {
            lock (owner._gate)
            {
                _replaced = owner._files.GetValueOrDefault(path);
                owner._files[path] = content;
            }

            owner.Published?.Invoke(path);
            return ValueTask.CompletedTask;
        }

        public override ValueTask WithdrawAsync()
        {
            lock (owner._gate)
            {
                if (owner._files.GetValueOrDefault(path) != content)
                {
                    return ValueTask.CompletedTask;
                }

                _ = owner._files.Remove(path);
                if (_replaced is not null)
                {
                    owner._files.Add(path, _replaced);
                }
            }

            return ValueTask.CompletedTask;
        }

        public override ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }
}
