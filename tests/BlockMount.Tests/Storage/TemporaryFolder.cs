namespace BlockMount.Tests.Storage;

/// <summary>A folder of its own for one test, removed afterwards.</summary>
public sealed class TemporaryFolder : IDisposable
{
    public TemporaryFolder(string? parent = null) =>
        Folder = Directory.CreateDirectory(Path.Combine(parent ?? Path.GetTempPath(), $"blockmount-test-{Guid.NewGuid():N}")).FullName;

    /// <summary>Full path of the folder.</summary>
    public string Folder { get; }

    /// <summary>Full path of a file in it, which need not exist.</summary>
    public string this[string name] => Path.Combine(Folder, name);

    /// <summary>Makes a file with the given content.</summary>
    public string Create(string name, ReadOnlySpan<byte> content = default)
    {
        File.WriteAllBytes(this[name], content);
        return this[name];
    }

    /// <inheritdoc/>
    public void Dispose() => Directory.Delete(Folder, recursive: true);
}
