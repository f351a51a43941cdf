namespace BlockMount.Control.Qmp;

/// <summary>What a command knows of the one who asked.</summary>
/// <param name="Events">Where the command tells what it does: what is emitted before it returns comes before its answer, at every client.</param>
/// <param name="OutOfBand">It came by exec-oob, and runs beside other commands.</param>
public sealed record CommandContext(QmpEvents Events, bool OutOfBand);
