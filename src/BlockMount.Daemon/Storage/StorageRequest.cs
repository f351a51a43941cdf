using BlockMount.Base;

namespace BlockMount.Daemon.Storage;

/// <summary>What 'blockmount daemon' was asked for. Immutable.</summary>
internal sealed record StorageRequest
{
    /// <summary>Run in the background; the command returns when everything is there.</summary>
    public bool Daemonize { get; init; }

    /// <summary>Where the process's number is written; null: nowhere.</summary>
    public string? PidFile { get; init; }

    /// <summary>"help" or "version" instead of anything else; null: neither.</summary>
    public string? Question { get; init; }

    /// <summary>What is carried out, in this order.</summary>
    public IReadOnlyList<OptionWord> Options { get; init; } = [];

    /// <summary>Looks at the whole command line for what goes before everything else.</summary>
    /// <exception cref="BlockMountException">It does not fit; nothing was carried out.</exception>
    public static StorageRequest Parse(string[] words)
    {
        StorageRequest request = new();
        List<OptionWord> options = [];
        foreach (OptionWord option in OptionWords.Read(words))
        {
            switch (option.Name)
            {
                case "help" or "version":
                    return request with { Question = option.Name };
                case "daemonize":
                    request = request with { Daemonize = true };
                    break;
                case "pidfile":
                    // Absolute before the background process leaves its folder.
                    request = request with { PidFile = Path.GetFullPath(option.Value) };
                    break;
                case "trace":
                    throw new BlockMountException(
                        $"{option.Written}: there are no trace events in this program", "Leave the option out; QMP events and 'query-blockstats' tell what happens.");
                default:
                    options.Add(option);
                    break;
            }
        }

        return request with { Options = options };
    }

    /// <summary>True if the background is wanted, as far as the command line can be read; what is wrong with it is told later.</summary>
    public static bool WantsBackground(string[] words)
    {
        try
        {
            return Parse(words) is { Daemonize: true, Question: null };
        }
        catch (BlockMountException)
        {
            // Told, with the exit code, by whoever carries the command line out: in the foreground.
            return false;
        }
    }
}
