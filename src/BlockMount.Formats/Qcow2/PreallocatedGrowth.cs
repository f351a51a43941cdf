namespace BlockMount.Formats.Qcow2;

/// <summary>
/// Gives the new part of a growing disk its clusters at once, by the way of every write: allocate, fill with zeros, commit. So the order of
/// writes is kept, and the kind of L2 entry and the file that holds the data do not matter here.
/// </summary>
internal static class PreallocatedGrowth
{
    private const long StepMax = 1L << 30;

    /// <summary>
    /// Every cluster from the first whole one behind <paramref name="oldSize"/> up to <paramref name="newSize"/> (the driver's size already)
    /// holds zeros in a place of its own afterwards. Needs exclusive use.
    /// </summary>
    internal static async ValueTask RunAsync(FormatDriver driver, long oldSize, long newSize, Preallocation mode)
    {
        long offset = Base.Alignment.Up(oldSize, driver.ClusterSize);
        while (mode != Preallocation.Off && offset < newSize)
        {
            WritePlan plan = await driver.PrepareWriteAsync(offset, Math.Min(newSize - offset, StepMax));
            if (plan.Allocation is { } allocation)
            {
                await FillAsync(driver, plan, allocation, mode);
            }
            else
            {
                await ZeroAsync(plan, plan.FileOffset, plan.Length, mode);
            }

            offset += plan.Length;
        }
    }

    private static async ValueTask FillAsync(FormatDriver driver, WritePlan plan, PendingAllocation allocation, Preallocation mode)
    {
        try
        {
            if (mode != Preallocation.Metadata || !allocation.ReadsAsZero)
            {
                await ZeroAsync(plan, allocation.FileOffset, allocation.GuestLength, mode);
            }

            await driver.CommitWriteAsync(allocation);
        }
        catch
        {
            await driver.AbandonWriteAsync(allocation);
            throw;
        }
    }

    private static async ValueTask ZeroAsync(WritePlan plan, long fileOffset, long length, Preallocation mode)
    {
        if (mode == Preallocation.Metadata)
        {
            await plan.File.WriteZeroesAsync(fileOffset, length, mayUnmap: true);
        }
        else
        {
            await PreallocationFill.RunAsync(plan.File, mode, fileOffset, length);
        }
    }
}
