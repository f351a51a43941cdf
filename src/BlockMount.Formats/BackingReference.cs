namespace BlockMount.Formats;

/// <summary>What an image's header says of its backing file: data, not a path, until <see cref="OpenPolicy"/> has resolved it.</summary>
/// <param name="FileName">As stored: relative to the directory of the image that names it, or absolute.</param>
/// <param name="Format">The recorded format ("raw", "qcow2"), or null when the image does not say.</param>
public sealed record BackingReference(string FileName, string? Format);
