using BlockMount.Formats.Qcow2.Repair;

namespace BlockMount.Daemon.Cli;

/// <summary>What the command line of 'blockmount check' says. Immutable.</summary>
internal sealed record CheckArguments
{
    public required string FileName { get; init; }

    /// <summary>Format name; null to recognise it.</summary>
    public string? Format { get; init; }

    /// <summary>Null to check only.</summary>
    public RepairMode? Repair { get; init; }

    public bool Json { get; init; }

    public bool ForceShare { get; init; }

    public bool Progress { get; init; }

    public bool Quiet { get; init; }

    /// <summary>Where a repair puts what it overwrites; null for the image's name with ".check-undo".</summary>
    public string? UndoFile { get; init; }

    /// <summary>An undo file to restore the image from, instead of checking; null for none.</summary>
    public string? Undo { get; init; }

    public string UndoFileName => UndoFile ?? FileName + ".check-undo";
}
