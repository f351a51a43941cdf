namespace BlockMount.TestSupport;

/// <summary>The repository that the tests were built in.</summary>
public static class SourceTree
{
    /// <summary>Absolute path of its top folder.</summary>
    /// <exception cref="InvalidOperationException">The tests do not run inside a repository.</exception>
    public static string Root { get; } = FindRoot();

    /// <summary>Absolute paths of the C# files that somebody wrote, below a folder named relative to <see cref="Root"/>.</summary>
    public static IEnumerable<string> FilesIn(string folder) =>
        Directory.EnumerateFiles(Path.Combine(Root, folder), "*.cs", SearchOption.AllDirectories)
            .Where(path => !path.Contains("/obj/", StringComparison.Ordinal) && !path.Contains("/bin/", StringComparison.Ordinal));

    private static string FindRoot()
    {
        DirectoryInfo? folder = new(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "BlockMount.sln")))
        {
            folder = folder.Parent;
        }

        return folder?.FullName ?? throw new InvalidOperationException("The tests do not run inside the repository.");
    }
}
