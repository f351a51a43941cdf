using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>How much a repair may change.</summary>
public enum RepairMode
{
    /// <summary>Only refcounts that are too high.</summary>
    Leaks,

    /// <summary>Everything, up to giving up what cannot be read.</summary>
    All,
}

/// <summary>What a repair found and what it left.</summary>
/// <param name="Before">The check before the first change; its guest ranges are those that may have lost their content.</param>
/// <param name="After">The check after the last change, with the numbers of what was fixed.</param>
/// <param name="Refused">Why nothing was changed; null if what the mode allows was done.</param>
public sealed record RepairResult(CheckReport Before, CheckReport After, string? Refused = null);

/// <summary>
/// Repairs a qcow2 image offline: mends tables, then makes refcounts and COPIED flags exact, then clears the dirty and the corrupt bit. The file must be
/// used by nobody else meanwhile.
/// <para>Order of writes, each step flushed before the next: entries that cannot be right go and COPIED flags that must not be set are cleared; refcounts
/// are increased; refcounts are decreased; COPIED flags are set; the header's bits are cleared. A power cut leaves an image that is not worse than before,
/// and another run finishes the work. Structures that change as a whole are written behind the end of the file and switched to by one write of the
/// header.</para>
/// <para>To be able to undo it, hand in an <see cref="UndoRecordingFile"/>.</para>
/// </summary>
public static class ImageRepair
{
    // A mended table can bring others to light; each round goes one level deeper.
    private const int RoundsMax = 8;

    private const long BytesToCopyMax = 256 << 20;

    /// <summary>Checks the image, repairs what was found, and checks it again.</summary>
    /// <exception cref="ImageFormatException">The header cannot be used: there is nothing to repair.</exception>
    /// <exception cref="Base.BlockIOException">The file cannot be read or written. What was written so far harms nobody.</exception>
    public static async ValueTask<RepairResult> RunAsync(StorageFile file, RepairMode mode, CheckOptions? options = null)
    {
        CheckMemory memory = new();
        options = (options ?? new CheckOptions()) with { Memory = memory };
        CheckReport before = await ConsistencyCheck.RunAsync(file, options);
        CheckReport after = before;
        if (await RefusalAsync(file, mode, before, memory) is { } refusal)
        {
            return new RepairResult(before, before, refusal);
        }

        if (!before.IsClean)
        {
            await ClearUnknownAutoclearBitsAsync(file);
            await (mode == RepairMode.Leaks ? FixLeaksAsync(file, memory) : FixAllAsync(file, before, memory));
            await file.FlushAsync();
            after = await ConsistencyCheck.RunAsync(file, options);
            after.CorruptionsFixed = Math.Max(0, before.Corruptions - after.Corruptions);
            after.LeaksFixed = Math.Max(0, before.Leaks - after.Leaks);
        }

        if (after.Corruptions == 0 && after.CheckErrors == 0)
        {
            await ClearBitsAsync(file);
        }

        return new RepairResult(before, after);
    }

    /// <summary>
    /// The repair that opening a dirty image for writing needs (lazy refcounts after a crash): makes refcounts and COPIED flags exact and clears the dirty
    /// bit. Gives nothing up: if more is wrong than that, the image stays as it is.
    /// </summary>
    /// <exception cref="ImageFormatException">The image needs a repair that somebody has to ask for.</exception>
    public static async ValueTask RepairDirtyAsync(StorageFile file)
    {
        CheckReport report = await ConsistencyCheck.RunAsync(file);
        RepairResult? result = report.Corruptions == report.StaleRefcounts && report.CheckErrors == 0 ? await RunAsync(file, RepairMode.All) : null;
        if (result is null || !result.After.IsClean)
        {
            throw new ImageFormatException(
                $"Could not open '{file.Name}': the image is marked dirty, and more is wrong with it than stale refcounts: {report.Corruptions} corruptions, {report.CheckErrors} check errors",
                $"Open it read-only, or repair it: 'blockmount check -r all {file.Name}'");
        }
    }

    // Why the image must stay as it is; null if nothing speaks against the repair.
    private static async ValueTask<string?> RefusalAsync(StorageFile file, RepairMode mode, CheckReport before, CheckMemory memory)
    {
        if (before.IsClean)
        {
            return null;
        }

        if (before.UnreadTables > 0)
        {
            return $"{before.UnreadTables} tables could not be followed, because too many lie over each other, or they are too large; a repair would take their clusters for unused";
        }

        long clusters = (await CheckedLayout.ReadAsync(file)).FileClusters;
        if (clusters > ImageState.ClustersMax)
        {
            return $"the file has {clusters} clusters, and a repair can count {ImageState.ClustersMax}";
        }

        return mode == RepairMode.Leaks ? RefusalOfLeaks(before) : NeedsMending(before) ? await RefusalOfMendingAsync(file, memory) : null;
    }

    private static string? RefusalOfLeaks(CheckReport before)
    {
        if (before.RefcountsNeedRebuild)
        {
            // Lowering counts in blocks that overlap with something would write into that.
            return "the refcount structure must be made anew, which -r all does and -r leaks does not";
        }

        // Data first: a damaged offset leaves the clusters that it meant without an owner, and -r all may find them again if nobody has freed them.
        return before.Leaks > 0 && before.UnfollowedReferences > 0
            ? $"{before.UnfollowedReferences} references or tables lead nowhere, and what looks leaked may belong to them; -r all repairs them first"
            : null;
    }

    // What more owners share than a refcount can say is copied for each of them. Where that would fill the disk, the image was made to do so.
    private static async ValueTask<string?> RefusalOfMendingAsync(StorageFile file, CheckMemory memory)
    {
        ImageState state = await ImageState.CountAsync(file, memory);
        SnapshotRepair snapshots = new(state, new FreshClusters(state));
        long bytes = (Math.Min(state.References.Overflows, BytesToCopyMax) << state.Layout.ClusterBits)
            + (state.Layout.HasDataFile ? 0 : snapshots.BytesToCopy());
        if (bytes > BytesToCopyMax)
        {
            return $"clusters and tables have so many owners that {bytes} bytes would have to be copied, and a repair copies at most {BytesToCopyMax}";
        }

        int missing = state.Layout.HasDataFile ? 0 : snapshots.MissingLengths();
        return missing > 0 && await state.LostL1.IsTooMuchAsync(missing) ? $"L1 tables of {missing} different lengths are missing, too many to be searched for" : null;
    }

    private static async ValueTask FixLeaksAsync(StorageFile file, CheckMemory memory)
    {
        await new RefcountRepair(await ImageState.CountAsync(file, memory)).CorrectAsync(increase: false);
        CheckReport rest = await ConsistencyCheck.RunAsync(file, new CheckOptions { Memory = memory });
        if (rest.Corruptions == rest.WrongCopiedFlags && rest.Leaks == 0 && rest.CheckErrors == 0)
        {
            // A refcount that fell to one asks for its flag.
            await CorrectFlagsAsync(await ImageState.CountAsync(file, memory));
        }
    }

    private static async ValueTask FixAllAsync(StorageFile file, CheckReport before, CheckMemory memory)
    {
        ImageState state = await ImageState.CountAsync(file, memory);
        for (int round = 0; round < RoundsMax && NeedsMending(before) && await MendAsync(state); round++)
        {
            await file.FlushAsync();
            state = await ImageState.CountAsync(file, memory);
        }

        RefcountRepair refcounts = new(state);
        if (await refcounts.NeedsRebuildAsync())
        {
            state = await ImageState.CountAsync(file, memory, countRefcountStructure: false);
            CopiedFlags flags = new(state);
            await flags.RunAsync(set: false);
            await new RefcountRepair(state).RebuildAsync();
            await flags.RunAsync(set: true);
        }
        else
        {
            CopiedFlags flags = new(state);
            await flags.RunAsync(set: false);
            await refcounts.CorrectAsync(increase: true);
            await refcounts.CorrectAsync(increase: false);
            await flags.RunAsync(set: true);
        }
    }

    // Not where refcounts alone are wrong. A flag can be one that its entry must not have at all.
    private static bool NeedsMending(CheckReport before) => before.Corruptions > before.RefcountsTooLow || before.CheckErrors > 0;

    // One kind of thing at a time: the next one needs the counts that result.
    private static async ValueTask<bool> MendAsync(ImageState state)
    {
        CheckedLayout layout = state.Layout;
        bool l1IsLost = layout.L1Entries > 0 && layout.IsOutside(layout.L1Offset, layout.L1Entries * 8L);
        if (l1IsLost && await state.LostL1.FindAsync(layout.L1Entries) is { } l1Offset)
        {
            await HeaderRepair.WriteL1OffsetAsync(state.File, l1Offset);
            return true;
        }

        FreshClusters fresh = new(state);
        if (await new SnapshotRepair(state, fresh).RunAsync() || await new BitmapRepair(state, fresh).RunAsync())
        {
            return true;
        }

        TableRepair tables = new(state, fresh);
        foreach (GuestTableRoot root in state.Walk.Roots)
        {
            if (!layout.IsOutside(root.Offset, root.Entries * 8L))
            {
                await tables.RunAsync(root);
            }
        }

        return tables.Changed;
    }

    private static async ValueTask CorrectFlagsAsync(ImageState state)
    {
        CopiedFlags flags = new(state);
        await flags.RunAsync(set: false);
        await flags.RunAsync(set: true);
    }

    // Who does not know what a bit promises must not keep the promise up (qcow2 specification, autoclear features).
    private static async ValueTask ClearUnknownAutoclearBitsAsync(StorageFile file)
    {
        CheckedLayout layout = await CheckedLayout.ReadAsync(file);
        ulong known = layout.AutoclearFeatures & (FeatureBits.Bitmaps | FeatureBits.RawExternalData);
        if (known != layout.AutoclearFeatures)
        {
            await HeaderRepair.WriteAutoclearAsync(file, known);
        }
    }

    private static async ValueTask ClearBitsAsync(StorageFile file)
    {
        CheckedLayout layout = await CheckedLayout.ReadAsync(file);
        ulong cleared = layout.IncompatibleFeatures & ~(FeatureBits.Dirty | FeatureBits.Corrupt);
        if (cleared != layout.IncompatibleFeatures)
        {
            await HeaderRepair.WriteIncompatibleAsync(file, cleared);
        }
    }
}
