namespace BlockMount.Control.DiskTool;

/// <summary>A command of the disk tool that cannot be carried out as it stands. The message is what the user reads, lines with their ends.</summary>
internal sealed class DiskToolException(string text) : Exception(text);
