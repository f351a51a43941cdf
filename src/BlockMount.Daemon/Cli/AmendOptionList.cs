using System.Globalization;
using BlockMount.Base;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.Amend;

namespace BlockMount.Daemon.Cli;

/// <summary>The options of 'amend -o', checked by name and value.</summary>
internal static class AmendOptionList
{
    /// <summary>The names that can be amended.</summary>
    public static IReadOnlyCollection<string> Names { get; } =
        ["backing_file", "backing_fmt", "compat", "data_file", "data_file_raw", "lazy_refcounts", "refcount_bits", "size"];

    /// <summary>Reads "name=value,name=value"; a doubled comma stands for a comma in a value. Later words win.</summary>
    /// <exception cref="ImageFormatException">An option is unknown, for creation only, or its value is wrong.</exception>
    public static AmendOptions Parse(IEnumerable<string> lists)
    {
        var options = new AmendOptions();
        foreach (string word in lists.SelectMany(CreateOptionList.Split))
        {
            int equals = word.IndexOf('=', StringComparison.Ordinal);
            string name = equals < 0 ? word : word[..equals];
            if (!Names.Contains(name))
            {
                throw new ImageFormatException(
                    $"Invalid parameter '{name}'",
                    CreateOptionList.NamesFor("qcow2").Contains(name) ? "This option is only supported for image creation" : $"Known: {string.Join(", ", Names)}");
            }

            // As QEMU: a name alone means "on".
            options = With(options, name, equals < 0 ? "on" : word[(equals + 1)..]);
        }

        return options;
    }

    private static AmendOptions With(AmendOptions options, string name, string value) => name switch
    {
        "backing_file" => options with { BackingFile = value },
        "backing_fmt" => options with { BackingFormat = value },
        "compat" => options with
        {
            Version = value switch
            {
                "0.10" or "v2" => 2,
                "1.1" or "v3" => 3,
                _ => throw new ImageFormatException($"Unknown compatibility level {value}", "Possible: 0.10 (v2), 1.1 (v3)"),
            },
        },
        "data_file" => options with { DataFile = value },
        "data_file_raw" => options with { DataFileRaw = Switch(name, value) },
        "lazy_refcounts" => options with { LazyRefcounts = Switch(name, value) },
        "refcount_bits" => options with
        {
            RefcountBits = long.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out long bits)
                ? bits
                : throw new ImageFormatException($"Parameter '{name}' expects a number"),
        },
        _ => options with
        {
            Size = ByteSize.TryParse(value, out long size)
                ? Alignment.Up(size, 512)
                : throw new ImageFormatException(
                    $"Parameter '{name}' expects a non-negative number below 2^63", "Optional suffixes are k, M, G, T, P and E, powers of 1024"),
        },
    };

    private static bool Switch(string name, string value) => value switch
    {
        "on" => true,
        "off" => false,
        _ => throw new ImageFormatException($"Parameter '{name}' expects 'on' or 'off'"),
    };
}
