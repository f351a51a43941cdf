namespace BlockMount.Control.DiskTool;

/// <summary>The words of a command do not fit it: its line of help is shown.</summary>
internal sealed class DiskToolUsageException : Exception;
