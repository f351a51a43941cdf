namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>Decides whether this program can work with the features that a header declares: at open, never at the first read.</summary>
public static class FeaturePolicy
{
    /// <summary>
    /// Refuses what cannot be read, and for a writable open also what must not be written. Inspection of the header alone
    /// (info) calls <see cref="CheckKnown"/> instead.
    /// </summary>
    /// <param name="repairsDirty">The caller repairs a dirty image before it is written to.</param>
    /// <exception cref="ImageFormatException">Names the feature and what can be done.</exception>
    public static void CheckOpen(Qcow2Header header, bool readOnly, string name, bool repairsDirty = false)
    {
        CheckKnown(header, name);
        CheckImplemented(header, name);
        if (!readOnly)
        {
            CheckWritable(header, name, repairsDirty);
        }
    }

    /// <summary>Refuses incompatible feature bits that the format specification known to this program does not define.</summary>
    public static void CheckKnown(Qcow2Header header, string name)
    {
        ulong unknown = header.IncompatibleFeatures & ~FeatureBits.IncompatibleKnown;
        if (unknown != 0)
        {
            throw new ImageFormatException(
                $"Could not open '{name}': Unsupported qcow2 feature(s): {FeatureNameTable.Describe(header, FeatureKind.Incompatible, unknown)}",
                "The image was written by a newer program: convert it there, as 'qemu-img convert -O qcow2 OLD NEW'");
        }
    }

    private static void CheckImplemented(Qcow2Header header, string name)
    {
        if (header.CryptMethod != 0)
        {
            throw new ImageFormatException(
                $"Could not open '{name}': encrypted images ({(header.CryptMethod == 1 ? "AES" : "LUKS")}) are not supported yet",
                "Decrypt it with 'qemu-img convert --object secret,... --image-opts ... -O qcow2 NEW'");
        }
    }

    private static void CheckWritable(Qcow2Header header, string name, bool repairsDirty)
    {
        if (header.HasIncompatible(FeatureBits.Corrupt))
        {
            throw new ImageFormatException(
                $"Could not open '{name}': qcow2: Image is corrupt; cannot be opened read/write",
                $"Open it read-only, or repair it: 'blockmount check -r all {name}'");
        }

        if (header.HasIncompatible(FeatureBits.Dirty) && !repairsDirty)
        {
            throw new ImageFormatException(
                $"Could not open '{name}': the image is marked dirty (it was not closed; its refcounts may be stale) and cannot be opened read/write",
                $"Open it read-only, or repair it: 'blockmount check -r all {name}'");
        }
    }
}
