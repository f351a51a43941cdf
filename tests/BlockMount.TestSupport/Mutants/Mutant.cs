using BlockMount.Formats;
using BlockMount.Storage;

namespace BlockMount.TestSupport.Mutants;

/// <summary>
/// A mistake put into the image under test from outside, to prove that a harness would find it in the product. This one makes none: it is the
/// control. One instance serves one run, across reopens.
/// </summary>
public class Mutant
{
    /// <summary>The file that the driver gets instead of <paramref name="file"/>, which it owns.</summary>
    public virtual StorageFile Wrap(StorageFile file) => new MutantFile(file);

    /// <summary>The driver that the node gets instead of <paramref name="driver"/>, which it owns.</summary>
    public virtual FormatDriver Wrap(FormatDriver driver) => new MutantDriver(driver);
}
