namespace BlockMount.Exports.Nbd;

/// <summary>The exports of one server by name. Any thread.</summary>
internal sealed class NbdExportTable
{
    private readonly Lock _gate = new();

    // Guarded by _gate.
    private readonly SortedDictionary<string, NbdExport> _exports = new(StringComparer.Ordinal);

    /// <summary>Adds an export; false when the name is taken.</summary>
    public bool TryAdd(NbdExport export)
    {
        lock (_gate)
        {
            return _exports.TryAdd(export.Name, export);
        }
    }

    /// <summary>Removes an export; later handshakes do not find it.</summary>
    public void Remove(NbdExport export)
    {
        lock (_gate)
        {
            _exports.Remove(export.Name);
        }
    }

    /// <summary>The export that a client means: the empty name stands for the only export there is. Null if there is no such export.</summary>
    public NbdExport? Find(string name)
    {
        lock (_gate)
        {
            if (_exports.TryGetValue(name, out NbdExport? export))
            {
                return export;
            }

            return name.Length == 0 && _exports.Count == 1 ? _exports.First().Value : null;
        }
    }

    /// <summary>All exports, ordered by name.</summary>
    public NbdExport[] ToArray()
    {
        lock (_gate)
        {
            return [.. _exports.Values];
        }
    }
}
