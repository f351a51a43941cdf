namespace BlockMount.TestSupport;

/// <summary>A fresh folder for one test, removed with everything in it.</summary>
public sealed class ScratchFolder : IDisposable
{
    /// <summary>Makes the folder below the system's temporary folder.</summary>
    public ScratchFolder()
    {
        FullPath = Directory.CreateTempSubdirectory("blockmount-test-").FullName;
    }

    /// <summary>Absolute path.</summary>
    public string FullPath { get; }

    /// <summary>Absolute path of a name inside.</summary>
    public string this[string name] => Path.Combine(FullPath, name);

    /// <summary>Removes the folder. What is still mounted in it makes this fail: unmount first.</summary>
    public void Dispose() => Directory.Delete(FullPath, recursive: true);
}
