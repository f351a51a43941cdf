namespace BlockMount.Control.Hmp;

/// <summary>What a word on an HMP command line stands for, and so how it is read.</summary>
public enum HmpParameterKind
{
    /// <summary>A single letter behind a dash, as -f; present or not.</summary>
    Flag,

    /// <summary>A word, in quotes if it has spaces.</summary>
    Text,

    /// <summary>A device or node name.</summary>
    Device,

    /// <summary>A file name.</summary>
    FileName,

    /// <summary>Bytes, with an optional suffix (b, k, M, G, T, P, E); a bare number counts MiB.</summary>
    Size,

    /// <summary>A 64-bit integer, decimal, octal (0...) or hexadecimal (0x...), which an optional suffix of <see cref="Size"/> multiplies.</summary>
    Integer,

    /// <summary>Everything up to the end of the line, at least one character.</summary>
    Rest,
}

/// <summary>A parameter of an HMP command. Immutable.</summary>
/// <param name="Name">Key of the value; of a flag its letter.</param>
/// <param name="Optional">May be left out; whatever follows it is optional too. Flags always are.</param>
public sealed record HmpParameter(string Name, HmpParameterKind Kind, bool Optional = false)
{
    /// <summary>A flag, as "f" for -f.</summary>
    public static HmpParameter Flag(string letter) => new(letter, HmpParameterKind.Flag, Optional: true);
}
