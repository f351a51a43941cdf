using BlockMount.Formats.Qcow2.Check;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>
/// What is done about an image that a lazy writer did not close, before it is opened for writing (FEATURES F15): its refcounts and COPIED flags are made
/// exact and the dirty bit goes. Nobody is there to be asked, so an image with other damage is left as it is.
/// </summary>
public static class DirtyImage
{
    /// <summary>Repairs the image in <paramref name="file"/>, which is open for writing and stays open. A power cut leaves it dirty, for the next try.</summary>
    /// <exception cref="ImageFormatException">There is more wrong than stale refcounts; nothing was changed.</exception>
    /// <exception cref="Base.BlockIOException">The file cannot be read or written.</exception>
    public static async ValueTask RepairAsync(StorageFile file)
    {
        CheckReport found = await ConsistencyCheck.RunAsync(file);
        if (found.CheckErrors > 0 || found.Corruptions > found.RefcountsTooLow + found.WrongCopiedFlags)
        {
            CheckFinding? worst = found.Findings.FirstOrDefault(finding =>
                finding.Kind is not (CheckFindingKind.RefcountTooLow or CheckFindingKind.CopiedFlag or CheckFindingKind.Leak));
            throw new ImageFormatException(
                $"Could not open '{file.Name}': the image is marked dirty, and it has more than the stale refcounts that this explains"
                    + (worst is null ? "" : $" ({worst.Description})"),
                $"Open it read-only, or repair it: 'blockmount check -r all {file.Name}'");
        }

        await ImageRepair.RunAsync(file, RepairMode.All);
    }
}
