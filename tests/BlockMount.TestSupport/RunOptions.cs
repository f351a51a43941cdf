using BlockMount.Storage;

namespace BlockMount.TestSupport;

/// <summary>
/// What BLOCKMOUNT_TEST_OPTIONS says: words of '-o' about engine and cache, as "aio=threads,cache=none", for every image that a test serves and does not
/// choose such words for itself. So whole suites run once more with another engine (see scripts/test). Not set: the program's defaults.
/// </summary>
public static class RunOptions
{
    /// <summary>The words; empty for none.</summary>
    public static string Words { get; } = Environment.GetEnvironmentVariable("BLOCKMOUNT_TEST_OPTIONS") ?? "";

    /// <summary>The words for a command line, before those of a test.</summary>
    public static string[] Arguments { get; } = Words.Length == 0 ? [] : ["-o", Words];

    /// <summary>The same, for files that a test opens without the program.</summary>
    /// <exception cref="InvalidOperationException">A word that is not known here.</exception>
    public static StorageOpenOptions Storage { get; } = Parse();

    private static StorageOpenOptions Parse()
    {
        StorageOpenOptions options = new();
        foreach (string word in Words.Split(',', StringSplitOptions.RemoveEmptyEntries))
        {
            options = word switch
            {
                "aio=auto" => options with { Engine = IoEngine.Auto },
                "aio=threads" => options with { Engine = IoEngine.Threads },
                "aio=io_uring" => options with { Engine = IoEngine.IoUring },
                "cache=none" => options with { Direct = true },
                "cache=writeback" => options with { Direct = false },
                _ => throw new InvalidOperationException($"BLOCKMOUNT_TEST_OPTIONS: '{word}' is not known to the tests"),
            };
        }

        return options;
    }
}
