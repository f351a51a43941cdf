using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Text.Json;
using BlockMount.Daemon.Registry;

namespace BlockMount.Daemon.Cli;

/// <summary>'blockmount ls': the running daemons, and those that ended without being able to write everything.</summary>
internal static class LsCommand
{
    private static readonly string[] s_titles = ["ID", "PID", "USER", "FORMAT", "DEPTH", "MODE", "STATE", "IMAGE", "MOUNT POINT", "NBD"];

    /// <summary>The command for the tree.</summary>
    public static Command Build()
    {
        Option<bool> json = new("--json", "-J") { Description = "print a JSON array" };
        Command command = new("ls", "List the running daemons.") { json };
        command.SetAction(parsed => Run(parsed.GetValue(json)));
        return command;
    }

    private static int Run(bool json)
    {
        List<RegisteredDaemon> daemons = [];
        foreach (DaemonRegistry registry in DaemonRegistry.Visible())
        {
            registry.RemoveDead();
            daemons.AddRange(registry.List().Where(daemon => daemon.Alive || daemon.Entry.CloseError is not null));
        }

        daemons.Sort((a, b) => string.CompareOrdinal(a.Entry.Id, b.Entry.Id));
        if (json)
        {
            List<RegistryEntry> entries = [.. daemons.Select(daemon => daemon.Entry)];
            Console.Out.WriteLine(JsonSerializer.Serialize(entries, RegistryJson.Default.ListRegistryEntry));
        }
        else if (daemons.Count == 0)
        {
            Console.Out.WriteLine("Nothing is served.");
        }
        else
        {
            Console.Out.Write(Table([s_titles, .. daemons.Select(Row)]));
        }

        return ExitCodes.Success;
    }

    private static string[] Row(RegisteredDaemon daemon)
    {
        RegistryEntry entry = daemon.Entry;
        return
        [
            entry.Id,
            daemon.Alive ? entry.Pid.ToString(CultureInfo.InvariantCulture) : "-",
            UserName(entry.Uid),
            entry.Format,
            entry.Depth.ToString(CultureInfo.InvariantCulture),
            entry.ReadOnly ? "ro" : "rw",
            daemon.Alive ? "serving" : $"failed: {entry.CloseError}",
            entry.Image,
            entry.MountPoint ?? "-",
            entry.Nbd ?? "-",
        ];
    }

    // A user that no database knows is shown by number.
    private static string UserName(uint uid)
    {
        try
        {
            return new Mono.Unix.UnixUserInfo(uid).UserName;
        }
        catch (ArgumentException)
        {
            return uid.ToString(CultureInfo.InvariantCulture);
        }
    }

    private static string Table(List<string[]> rows)
    {
        int[] widths = [.. s_titles.Select((_, column) => rows.Max(row => row[column].Length))];
        StringBuilder text = new();
        foreach (string[] row in rows)
        {
            // Names may hold anything, and the terminal would obey it.
            string line = string.Join("  ", row.Select((cell, column) => Printable(cell).PadRight(widths[column])));
            text.Append(line.TrimEnd()).Append('\n');
        }

        return text.ToString();
    }

    private static string Printable(string text) => string.Concat(text.Select(c => char.IsControl(c) ? '?' : c));
}
