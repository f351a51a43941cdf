using System.Numerics;
using System.Text;

namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>
/// The header extension in which an image names the features it may use, so that a program that does not know a bit can at
/// least say its name. Entries of 48 bytes: u8 kind, u8 bit, 46 bytes of name padded with NUL.
/// </summary>
public static class FeatureNameTable
{
    private const int EntrySize = 48;
    private const int NameOffset = 2;

    private static readonly (FeatureKind Kind, ulong Mask, string Name)[] s_known =
    [
        (FeatureKind.Incompatible, FeatureBits.Dirty, "dirty bit"),
        (FeatureKind.Incompatible, FeatureBits.Corrupt, "corrupt bit"),
        (FeatureKind.Incompatible, FeatureBits.ExternalDataFile, "external data file"),
        (FeatureKind.Incompatible, FeatureBits.CompressionType, "compression type"),
        (FeatureKind.Incompatible, FeatureBits.ExtendedL2, "extended L2 entries"),
        (FeatureKind.Compatible, FeatureBits.LazyRefcounts, "lazy refcounts"),
        (FeatureKind.Autoclear, FeatureBits.Bitmaps, "bitmaps"),
        (FeatureKind.Autoclear, FeatureBits.RawExternalData, "raw external data"),
    ];

    /// <summary>The table that goes into every new version 3 image.</summary>
    public static HeaderExtension Create()
    {
        byte[] table = new byte[s_known.Length * EntrySize];
        for (int i = 0; i < s_known.Length; i++)
        {
            Span<byte> entry = table.AsSpan(i * EntrySize, EntrySize);
            entry[0] = (byte)s_known[i].Kind;
            entry[1] = (byte)BitOperations.TrailingZeroCount(s_known[i].Mask);
            Encoding.ASCII.GetBytes(s_known[i].Name, entry[NameOffset..]);
        }

        return new HeaderExtension(HeaderExtensionType.FeatureNameTable, table);
    }

    /// <summary>
    /// The table for a header that is written anew: the image's own if it is one (it may name features that came later), otherwise a new one.
    /// </summary>
    internal static HeaderExtension UsableOrNew(Qcow2Header header)
    {
        HeaderExtension? own = header.FindExtension(HeaderExtensionType.FeatureNameTable);
        return own is not null && IsUsable(own.Data.Span) ? own : Create();
    }

    // A rewriting that a power cut ended leaves a gap that calls itself a name table (HeaderRewritePlan); its length is no multiple of an entry.
    private static bool IsUsable(ReadOnlySpan<byte> table) => table.Length > 0 && table.Length % EntrySize == 0;

    /// <summary>
    /// Words for the set bits of <paramref name="bits"/>: names from the image's table (control characters replaced, it is
    /// foreign text), the mask in hex for what the table does not name.
    /// </summary>
    public static string Describe(Qcow2Header header, FeatureKind kind, ulong bits)
    {
        var words = new List<string>();
        ReadOnlySpan<byte> table = header.FindExtension(HeaderExtensionType.FeatureNameTable) is { } extension
            ? extension.Data.Span
            : [];
        for (; table.Length >= EntrySize && bits != 0; table = table[EntrySize..])
        {
            if (table[0] == (byte)kind && table[1] < 64 && (bits & (1UL << table[1])) != 0)
            {
                words.Add(PrintableName(table[NameOffset..EntrySize]));
                bits &= ~(1UL << table[1]);
            }
        }

        if (bits != 0)
        {
            words.Add($"Unknown {kind.ToString().ToLowerInvariant()} feature: {bits:x}");
        }

        return string.Join(", ", words);
    }

    private static string PrintableName(ReadOnlySpan<byte> padded)
    {
        int end = padded.IndexOf((byte)0);
        var name = new StringBuilder(Encoding.UTF8.GetString(end < 0 ? padded : padded[..end]));
        for (int i = 0; i < name.Length; i++)
        {
            if (char.IsControl(name[i]))
            {
                name[i] = '?';
            }
        }

        return name.ToString();
    }
}
