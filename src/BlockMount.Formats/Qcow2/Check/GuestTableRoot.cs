namespace BlockMount.Formats.Qcow2.Check;

/// <summary>An L1 table with what hangs on it.</summary>
/// <param name="Snapshot">The snapshot that it belongs to; null for the active disk.</param>
/// <param name="Offset">Host offset of the table.</param>
/// <param name="Entries">Entries of the table.</param>
/// <param name="DiskSize">Bytes of the guest disk; what the table describes behind it is saved machine state.</param>
/// <param name="Referrer">Host offset of the field that names the table.</param>
internal sealed record GuestTableRoot(string? Snapshot, long Offset, int Entries, long DiskSize, long Referrer)
{
    internal bool IsActive => Snapshot is null;

    internal long Bytes => Entries * 8L;
}
