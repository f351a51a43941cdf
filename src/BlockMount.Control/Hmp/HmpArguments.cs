namespace BlockMount.Control.Hmp;

/// <summary>The values of one HMP command line, by parameter name. Filled by <see cref="HmpSyntax"/>, then only read.</summary>
public sealed class HmpArguments
{
    private readonly Dictionary<string, object> _values = [];

    /// <summary>True if the flag was given.</summary>
    public bool Has(string name) => _values.ContainsKey(name);

    /// <summary>The text; null if it was left out.</summary>
    public string? Text(string name) => _values.GetValueOrDefault(name) as string;

    /// <summary>The number; null if it was left out. Sizes are in bytes.</summary>
    public long? Number(string name) => _values.TryGetValue(name, out object? value) ? (long)value : null;

    internal void Set(string name, object value) => _values[name] = value;
}
