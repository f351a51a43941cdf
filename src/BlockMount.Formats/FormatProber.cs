using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats;

/// <summary>
/// Recognises formats by their magic. Never answers "raw": the guest decides what the first bytes of a raw disk are, so a
/// file is raw only when somebody says so (USERS B7, CVE-2008-2004).
/// </summary>
public static class FormatProber
{
    private const int MagicBytes = 4;

    /// <summary>"qcow2", or null when the content is of no known format.</summary>
    public static async ValueTask<string?> ProbeAsync(StorageFile file)
    {
        byte[] start = new byte[MagicBytes];
        await file.ReadAsync(0, start);
        return Qcow2HeaderReader.HasMagic(start) ? "qcow2" : null;
    }
}
