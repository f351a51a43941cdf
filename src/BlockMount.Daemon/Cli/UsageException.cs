using BlockMount.Base;

namespace BlockMount.Daemon.Cli;

/// <summary>The command line is wrong. Thrown before anything is opened or made; ends the program with 2.</summary>
public sealed class UsageException(string message, string? hint = null) : BlockMountException(message, hint);
