using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Bitmaps;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Crash;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Formats.Qcow2.Bitmaps;

/// <summary>
/// Power cuts at every write of sessions that change bitmaps: the image opens and is not corrupt, the list of bitmaps can be read, and a bitmap that
/// calls itself valid has the bits that it had before the session or has after it.
/// </summary>
public sealed class BitmapPowerCutTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("put")]
    [InlineData("replace")]
    [InlineData("remove")]
    [InlineData("auto")]
    [InlineData("resize")]
    [InlineData("backing")]
    [InlineData("write")]
    [InlineData("remove", "remove recording")]
    [InlineData("put", "replace", "auto", "write", "put", "backing", "remove", "resize")]
    public async Task PowerCut_AnywhereInASession_LeavesNoWrongBitmap(params string[] changes)
    {
        int states = 0;
        MemoryFile file = await PersistentBitmapStoreTests.WithTwoAsync(dataAt: 512);
        byte[] initial = file.ToArray();
        Dictionary<string, byte[]> before = await ValidAsync(file);
        StorageLog log = new();
        Qcow2Driver driver = await BitmapImage.OpenAsync(new RecordingFile(file.Reopen(), log));
        foreach (string change in changes)
        {
            if (change == "remove recording")
            {
                await driver.Bitmaps!.RemoveAsync("recording");
            }
            else
            {
                await PersistentBitmapStoreTests.ChangeAsync(driver, change);
            }
        }

        await driver.DisposeAsync();
        Dictionary<string, byte[]> after = await ValidAsync(file);
        foreach ((CrashImage image, string description) in CrashStates.Of(log, initial, seed: changes.Length))
        {
            states++;
            await JudgeAsync(image.ToFile(), before, after, description);
        }

        output.WriteLine($"{states} states");
    }

    private static async Task JudgeAsync(MemoryFile left, Dictionary<string, byte[]> before, Dictionary<string, byte[]> after, string description)
    {
        CheckReport report = await ConsistencyCheck.RunAsync(left);
        Assert.True(report.Corruptions == 0, $"{report}\n{description}");
        BitmapDirectory directory = await BitmapImage.ListAsync(left);
        Assert.True(directory.Problem is null, $"{directory.Problem}\n{description}");
        foreach ((string name, byte[] bits) in await ValidAsync(left))
        {
            bool isOld = before.TryGetValue(name, out byte[]? old) && old.AsSpan().SequenceEqual(bits);
            bool isNew = after.TryGetValue(name, out byte[]? later) && later.AsSpan().SequenceEqual(bits);
            Assert.True(isOld || isNew, $"bitmap '{name}' is valid and wrong\n{description}");
        }

        // And it can be opened, changed and closed again.
        Qcow2Driver driver = await BitmapImage.OpenAsync(left.Reopen());
        await driver.Bitmaps!.PutAsync("stopped", BitmapImage.GranularityBits, auto: false, null);
        await driver.DisposeAsync();
        report = await ConsistencyCheck.RunAsync(left);
        Assert.True(report.Corruptions == 0, $"after reopening: {report}\n{description}");
    }

    private static async Task<Dictionary<string, byte[]>> ValidAsync(MemoryFile file)
    {
        MemoryFile handle = file.Reopen(readOnly: true);
        Dictionary<string, byte[]> valid = [];
        foreach (StoredBitmap bitmap in (await BitmapImage.ListAsync(handle)).Bitmaps.Where(bitmap => bitmap.IsConsistent))
        {
            valid.Add(bitmap.Name, await BitmapImage.ReadAsync(handle, bitmap));
        }

        return valid;
    }
}
