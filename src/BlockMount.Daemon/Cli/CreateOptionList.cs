using System.Globalization;
using BlockMount.Base;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;

namespace BlockMount.Daemon.Cli;

/// <summary>
/// The options of -o, checked by name and value: what a new image is to be, as far as the command line says. Immutable.
/// </summary>
internal sealed record CreateOptionList
{
    private const string NotYet = "not supported yet";

    private static readonly string[] s_rawNames = ["size", "preallocation", "nocow", "extent_size_hint"];

    // QEMU's file driver keeps the hint in 32 bits.
    private const long ExtentSizeHintMax = uint.MaxValue;

    private static readonly string[] s_qcow2Names =
    [
        "size", "compat", "backing_file", "backing_fmt", "cluster_size", "preallocation", "lazy_refcounts", "refcount_bits",
        "compression_type", "extended_l2", "data_file", "data_file_raw", "encryption", "encrypt.format", "nocow", "extent_size_hint",
    ];

    public long? Size { get; init; }

    public string? BackingFile { get; init; }

    public string? BackingFormat { get; init; }

    public long ClusterSize { get; init; } = 65536;

    /// <summary>As given: "0.10", "v2", "1.1", "v3"; null if not given.</summary>
    public string? Compat { get; init; }

    public Qcow2Compression Compression { get; init; }

    public bool LazyRefcounts { get; init; }

    /// <summary>Null if not given.</summary>
    public Preallocation? Preallocation { get; init; }

    public long RefcountBits { get; init; } = 16;

    public bool ExtendedL2 { get; init; }

    public string? DataFile { get; init; }

    /// <summary>Null if not given.</summary>
    public bool? DataFileRaw { get; init; }

    /// <summary>"encryption=off" was said, which is what there is.</summary>
    public bool EncryptionOff { get; init; }

    /// <summary>Null if not given.</summary>
    public bool? NoCow { get; init; }

    /// <summary>Bytes; null if not given.</summary>
    public long? ExtentSizeHint { get; init; }

    /// <summary>The names that -o takes for a format.</summary>
    public static IReadOnlyCollection<string> NamesFor(string format) => format == "raw" ? s_rawNames : s_qcow2Names;

    /// <summary>Reads "name=value,name=value"; a doubled comma stands for a comma in a value. Later words win.</summary>
    /// <exception cref="ImageFormatException">An option is unknown, not supported yet, or its value is wrong.</exception>
    public static CreateOptionList Parse(IEnumerable<string> lists, string format)
    {
        var options = new CreateOptionList();
        foreach (string word in lists.SelectMany(Split))
        {
            int equals = word.IndexOf('=', StringComparison.Ordinal);
            string name = equals < 0 ? word : word[..equals];
            bool known = NamesFor(format).Contains(name) || (format == "qcow2" && name.StartsWith("encrypt.", StringComparison.Ordinal));
            if (!known)
            {
                throw new ImageFormatException(
                    $"Invalid parameter '{name}' in -o for format {format}", $"Known: {string.Join(", ", NamesFor(format))}");
            }

            // As QEMU: a name alone means "on".
            options = options.With(name, equals < 0 ? "on" : word[(equals + 1)..]);
        }

        return options;
    }

    /// <summary>Words of a list; a doubled comma stands for a comma.</summary>
    internal static IEnumerable<string> Split(string list) => list
        .Replace(",,", "\0", StringComparison.Ordinal)
        .Split(',', StringSplitOptions.RemoveEmptyEntries)
        .Select(word => word.Replace('\0', ','));

    private CreateOptionList With(string name, string value) => name switch
    {
        "size" => this with { Size = Bytes(name, value) },
        "backing_file" => this with { BackingFile = value },
        "backing_fmt" => this with { BackingFormat = value },
        "cluster_size" => this with { ClusterSize = Bytes(name, value) },
        "compat" when value is "0.10" or "v2" or "1.1" or "v3" => this with { Compat = value },
        "compat" => throw Wrong(name, value, "0.10 (v2), 1.1 (v3)"),
        "compression_type" => this with
        {
            Compression = value switch { "zlib" => Qcow2Compression.Zlib, "zstd" => Qcow2Compression.Zstd, _ => throw Wrong(name, value, "zlib, zstd") },
        },
        "lazy_refcounts" => this with { LazyRefcounts = Switch(name, value) },
        "preallocation" => this with { Preallocation = PreallocationOf(value) },
        "refcount_bits" => this with { RefcountBits = Number(name, value) },
        "extended_l2" => this with { ExtendedL2 = Switch(name, value) },
        "data_file" => this with { DataFile = value },
        "data_file_raw" => this with { DataFileRaw = Switch(name, value) },
        "nocow" => this with { NoCow = Switch(name, value) },
        "extent_size_hint" when Bytes(name, value) is var hint and <= ExtentSizeHintMax => this with { ExtentSizeHint = hint },
        "extent_size_hint" => throw new ImageFormatException($"Extent size hint {value} is too large", $"At most {ExtentSizeHintMax} bytes"),
        "encryption" when !Switch(name, value) => this with { EncryptionOff = true },
        _ => throw new ImageFormatException($"Parameter '{name}={value}' is {NotYet}", "Make such an image with 'qemu-img create'"),
    };

    private static Preallocation PreallocationOf(string value) => value switch
    {
        "off" => Formats.Preallocation.Off,
        "metadata" => Formats.Preallocation.Metadata,
        "falloc" => Formats.Preallocation.Falloc,
        "full" => Formats.Preallocation.Full,
        _ => throw Wrong("preallocation", value, "off, metadata, falloc, full"),
    };

    private static bool Switch(string name, string value) => value switch
    {
        "on" or "yes" or "true" or "y" => true,
        "off" or "no" or "false" or "n" => false,
        _ => throw Wrong(name, value, "on, off"),
    };

    private static long Bytes(string name, string value) => ByteSize.TryParse(value, out long bytes)
        ? bytes
        : throw Wrong(name, value, "a number of bytes, or with a suffix as 64k, 1.5G");

    private static long Number(string name, string value) =>
        long.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out long number) ? number : throw Wrong(name, value, "a number");

    private static ImageFormatException Wrong(string name, string value, string allowed) =>
        new($"Parameter '{name}' does not accept value '{value}'", $"Possible: {allowed}");
}
