using System.Numerics;
using System.Text;
using BlockMount.Base;
using BlockMount.Formats.Qcow2.Bitmaps;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Formats.Qcow2.Repair;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Amend;

/// <summary>
/// Changes properties of an image that nobody has open otherwise. Everything that can be refused is refused before the first change; every step is on disk
/// before the next, and a power cut leaves a valid image with some of the steps done (Amend/README.md).
/// </summary>
public static class Qcow2Amend
{
    /// <summary>All changes but the step down to version 2, which comes last, after a change of size: <see cref="DowngradeAsync"/>.</summary>
    /// <param name="file">Open for writing; stays open.</param>
    /// <exception cref="ImageFormatException">The image cannot be amended so; nothing was changed, but that a dirty image is repaired.</exception>
    /// <exception cref="BlockIOException">Reading or writing failed.</exception>
    public static async ValueTask ApplyAsync(StorageFile file, AmendOptions options)
    {
        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file);
        FeaturePolicy.CheckOpen(header, readOnly: false, file.Name, repairsDirty: true);
        if (header.HasIncompatible(FeatureBits.Dirty))
        {
            // Its refcounts may be too low, and the new structure would be made from them.
            await DirtyImage.RepairAsync(file);
            header = await Qcow2HeaderReader.LoadAsync(file);
            FeaturePolicy.CheckOpen(header, readOnly: false, file.Name);
        }

        AmendTarget target = AmendTarget.For(header, options);
        if (target.Version < 3)
        {
            await CheckDowngradeAsync(file, header, target.RefcountOrder, options.Size ?? header.Size);
        }

        RefcountWidthChange? width = null;
        if (target.RefcountOrder != header.RefcountOrder)
        {
            width = new RefcountWidthChange(file, header, target.RefcountOrder);
            await width.PrepareAsync();
        }

        await RewriteHeaderAsync(file, header, target, options);
        if (width is not null)
        {
            await width.RunAsync();
        }
    }

    /// <summary>
    /// Makes the image version 2, if it is not: clusters that say "zero" become zeros or nothing in all tables, then the header changes.
    /// </summary>
    /// <exception cref="ImageFormatException">The image uses what version 2 does not have; nothing was changed.</exception>
    /// <exception cref="BlockIOException">Reading or writing failed.</exception>
    public static async ValueTask DowngradeAsync(StorageFile file)
    {
        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file);
        if (header.Version == 2)
        {
            return;
        }

        FeaturePolicy.CheckOpen(header, readOnly: false, file.Name);
        await CheckDowngradeAsync(file, header, header.RefcountOrder, header.Size);
        await ZeroExpansion.RunAsync(file, header);
        await HeaderRewriter.RewriteAsync(file, order: null, current => current with
        {
            Version = 2,
            IncompatibleFeatures = 0,
            CompatibleFeatures = 0,
            AutoclearFeatures = 0,
            UnknownHeaderBytes = default,
        });
    }

    private static async ValueTask RewriteHeaderAsync(StorageFile file, Qcow2Header header, AmendTarget target, AmendOptions options)
    {
        int version = Math.Max(header.Version, target.Version);
        ulong compatible = target.LazyRefcounts
            ? header.CompatibleFeatures | FeatureBits.LazyRefcounts
            : header.CompatibleFeatures & ~FeatureBits.LazyRefcounts;
        ulong raw = options.DataFileRaw == false ? 0 : FeatureBits.RawExternalData;
        ulong autoclear = header.AutoclearFeatures & (FeatureBits.Bitmaps | raw);
        if (version == header.Version && compatible == header.CompatibleFeatures && autoclear == header.AutoclearFeatures && options.DataFile is null)
        {
            return;
        }

        await HeaderRewriter.RewriteAsync(file, order: null, current =>
        {
            Qcow2Header next = current with { Version = version, CompatibleFeatures = compatible, AutoclearFeatures = autoclear };
            return options.DataFile switch
            {
                null => next,
                "" => next.WithExtension(HeaderExtensionType.DataFileName, null),
                string name => next.WithExtension(HeaderExtensionType.DataFileName, Encoding.UTF8.GetBytes(name)),
            };
        });
    }

    private static async ValueTask CheckDowngradeAsync(StorageFile file, Qcow2Header header, int refcountOrder, long size)
    {
        if (header.Version == 2)
        {
            return;
        }

        if (header.HasIncompatible(FeatureBits.ExternalDataFile))
        {
            throw new ImageFormatException("Cannot downgrade an image with a data file");
        }

        if (header.IncompatibleFeatures != 0)
        {
            throw new ImageFormatException(
                $"Cannot downgrade an image with incompatible features 0x{header.IncompatibleFeatures:x} set"
                + $" ({FeatureNameTable.Describe(header, FeatureKind.Incompatible, header.IncompatibleFeatures)})",
                "Convert it: 'qemu-img convert -O qcow2 -o compat=0.10 OLD NEW'");
        }

        if (refcountOrder != 4)
        {
            throw new ImageFormatException("compat=0.10 requires refcount_bits=16");
        }

        if ((await BitmapDirectory.LoadAsync(file, header)).Bitmaps.Count > 0)
        {
            throw new ImageFormatException(
                "Cannot downgrade an image with persistent bitmaps, which version 2 cannot store", $"Remove them first: 'blockmount bitmap --remove {file.Name} NAME'");
        }

        IReadOnlyList<SnapshotEntry> snapshots = await SnapshotTable.LoadAsync(file, header);
        if (snapshots.Any(snapshot => snapshot.DiskSize != size || (ulong)snapshot.VmStateSize > uint.MaxValue))
        {
            throw new ImageFormatException("Internal snapshots prevent downgrade of image", "Their disks have another size, or too large a machine state");
        }
    }

    /// <summary>What the image will be, as far as other options depend on it.</summary>
    private readonly record struct AmendTarget(int Version, int RefcountOrder, bool LazyRefcounts)
    {
        /// <summary>Decides, and refuses what contradicts the image or itself.</summary>
        internal static AmendTarget For(Qcow2Header header, AmendOptions options)
        {
            CheckReferences(header, options);
            int version = options.Version ?? header.Version;
            long bits = options.RefcountBits ?? 1L << header.RefcountOrder;
            if (bits is < 1 or > 64 || !BitOperations.IsPow2(bits))
            {
                throw new ImageFormatException("Refcount width must be a power of two and may not exceed 64 bits");
            }

            // What the image has now may go with the version; what is asked for may not contradict it.
            bool wasLazy = header.HasCompatible(FeatureBits.LazyRefcounts);
            bool lazy = options.LazyRefcounts ?? wasLazy;
            if (version < 3 && bits != 16 && options.RefcountBits is not null)
            {
                throw new ImageFormatException(
                    "Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)");
            }

            return version < 3 && options.LazyRefcounts == true
                ? throw new ImageFormatException("Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)")
                : new AmendTarget(version, BitOperations.Log2((ulong)bits), lazy);
        }

        private static void CheckReferences(Qcow2Header header, AmendOptions options)
        {
            bool names = options.BackingFile is not null || options.BackingFormat is not null;
            if (names && (options.BackingFile != header.Backing?.FileName || options.BackingFormat != header.Backing?.Format))
            {
                throw new ImageFormatException("Cannot amend the backing file", "You can use 'qemu-img rebase' instead");
            }

            if (options.DataFile is not null && !header.HasIncompatible(FeatureBits.ExternalDataFile))
            {
                throw new ImageFormatException("data-file can only be set for images that use an external data file");
            }

            if (options.DataFileRaw == true && (header.AutoclearFeatures & FeatureBits.RawExternalData) == 0)
            {
                throw new ImageFormatException("data-file-raw cannot be set on existing images");
            }
        }
    }
}
