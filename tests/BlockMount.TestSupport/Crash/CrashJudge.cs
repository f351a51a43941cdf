using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;

namespace BlockMount.TestSupport.Crash;

/// <summary>What is wrong about a state after a power cut.</summary>
public enum CrashFault
{
    None,

    /// <summary>The consistency check found corruption.</summary>
    Corrupt,

    /// <summary>The driver did not open the image, or could not read it.</summary>
    Unreadable,

    /// <summary>The disk has a size that it may not have.</summary>
    WrongSize,

    /// <summary>A sector holds neither its last flushed nor a later value.</summary>
    ForeignSector,

    /// <summary>After opening and closing the crashed image it is corrupt.</summary>
    CorruptAfterReopen,
}

/// <summary>The judgement of one state.</summary>
public readonly record struct CrashVerdict(CrashFault Fault, string Description)
{
    /// <summary>Nothing is wrong.</summary>
    public bool IsGood => Fault == CrashFault.None;
}

/// <summary>Decides whether a state after a power cut keeps the promise: opens, is not corrupt, holds for each sector the last flushed or a later value.</summary>
public static class CrashJudge
{
    /// <summary>Judges <paramref name="image"/>, whose bytes it uses up, as a state at the cut <paramref name="cut"/> of the workload.</summary>
    public static async ValueTask<CrashVerdict> JudgeAsync(TestChain chain, ReferenceImage reference, CrashImage image, long cut)
    {
        CheckReport before = await ConsistencyCheck.RunAsync(MemoryFile.Adopt(image.Bytes, image.Length, "crashed", readOnly: true));
        if (before.Corruptions > 0 && !CrashImage.Excuses(image.Bytes, before))
        {
            return new CrashVerdict(CrashFault.Corrupt, before.ToString());
        }

        MemoryFile file = MemoryFile.Adopt(image.Bytes, image.Length, "crashed");
        try
        {
            MemoryFile? data = image.DataBytes is null ? null : MemoryFile.Adopt(image.DataBytes, image.DataLength, "data");
            CrashVerdict content = await JudgeContentAsync(chain, reference, file, data, cut);
            if (!content.IsGood)
            {
                return content;
            }
        }
        catch (BlockMountException error)
        {
            return new CrashVerdict(CrashFault.Unreadable, error.Message);
        }

        CheckReport after = await ConsistencyCheck.RunAsync(file.Reopen(readOnly: true));
        return after.Corruptions > 0 ? new CrashVerdict(CrashFault.CorruptAfterReopen, after.ToString()) : default;
    }

    // Longer or shorter it may be: the disk may have been resized just then.
    private static bool IsRawImageOf(MemoryFile data, byte[] content)
    {
        byte[] raw = data.ToArray();
        int common = Math.Min(raw.Length, content.Length);
        return raw.AsSpan(0, common).SequenceEqual(content.AsSpan(0, common)) && !content.AsSpan(common).ContainsAnyExcept((byte)0);
    }

    private static async ValueTask<CrashVerdict> JudgeContentAsync(TestChain chain, ReferenceImage reference, MemoryFile file, MemoryFile? data, long cut)
    {
        long settled = reference.SettledAt(cut);
        BlockDevice device = await chain.OpenAsync(file, data: data);
        try
        {
            if (!reference.AdmitsSize(device.Size, settled, cut))
            {
                return new CrashVerdict(CrashFault.WrongSize, $"the disk has {device.Size} bytes");
            }

            byte[] content = new byte[device.Size];
            await device.ReadAsync(0, content);
            if (chain.Geometry.DataFile == DataFileKind.Raw && !IsRawImageOf(data!, content))
            {
                return new CrashVerdict(CrashFault.ForeignSector, "the raw data file is another disk than the image");
            }

            long foreign = reference.FindForeignSector(0, content, settled, cut);
            return foreign < 0
                ? default
                : new CrashVerdict(
                    CrashFault.ForeignSector,
                    $"settled {settled}: {reference.Describe(foreign, content.AsSpan((int)foreign * ReferenceImage.SectorSize, ReferenceImage.SectorSize))}");
        }
        finally
        {
            await device.DisposeAsync();
        }
    }
}
