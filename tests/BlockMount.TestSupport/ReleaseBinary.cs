namespace BlockMount.TestSupport;

/// <summary>The published program: the environment variable BLOCKMOUNT, or artifacts/blockmount at the top of the repository.</summary>
public static class ReleaseBinary
{
    /// <summary>Absolute path.</summary>
    /// <exception cref="InvalidOperationException">It has not been built.</exception>
    public static string FullPath => TryFind()
        ?? throw new InvalidOperationException("The release binary is not built: run 'make build' or set BLOCKMOUNT.");

    /// <summary>Absolute path, or null when it has not been built.</summary>
    public static string? TryFind()
    {
        if (Environment.GetEnvironmentVariable("BLOCKMOUNT") is { Length: > 0 } named)
        {
            return File.Exists(named) ? Path.GetFullPath(named) : null;
        }

        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "BlockMount.sln")))
            {
                string candidate = Path.Combine(folder.FullName, "artifacts", "blockmount");
                return File.Exists(candidate) ? candidate : null;
            }
        }

        return null;
    }

    /// <summary>Runs it to its end (the command that mounts ends when the mount answers) and returns what it printed.</summary>
    public static Task<ToolResult> RunAsync(params string[] arguments) => ToolProcess.RunAsync(FullPath, arguments);
}
