using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Bitmaps;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2.Bitmaps;

/// <summary>Bitmaps are stored and removed while guests write, zero, discard and flush.</summary>
public sealed class BitmapConcurrencyTests
{
    private const int Size = 1 << 20;
    private const int Clients = 3;
    private const int Region = Size / Clients / 512 * 512;

    [Fact]
    public async Task Put_WhileTheGuestWrites_KeepsBoth()
    {
        foreach (int seed in TestBudget.Seeds(1, 10))
        {
            MemoryFile file = BitmapImage.Create(size: Size);
            Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
            BlockDevice device = new("test", new FormatNode("top", "top", driver, backing: null), readOnly: false);
            byte[] expected = new byte[Size];
            Task[] clients = [.. Enumerable.Range(0, Clients).Select(i => Task.Run(() => RunGuestAsync(device, expected, i, new Random((seed * 10) + i))))];
            byte[] bits = BitmapImage.Bits(Size, seed);
            for (int i = 0; i < 30; i++)
            {
                await driver.Bitmaps!.PutAsync($"b{i % 3}", BitmapImage.GranularityBits, auto: false, BitmapImage.Source(bits));
                if (i % 5 == 4)
                {
                    await driver.Bitmaps.RemoveAsync($"b{i % 3}");
                }

                await Task.Yield();
            }

            await Task.WhenAll(clients);
            await driver.Bitmaps!.PutAsync("last", BitmapImage.GranularityBits, auto: true, BitmapImage.Source(bits));
            byte[] read = new byte[Size];
            await device.ReadAsync(0, read);
            Assert.True(read.AsSpan().SequenceEqual(expected), TestBudget.Replay(seed, nameof(Put_WhileTheGuestWrites_KeepsBoth)));
            await device.DisposeAsync();

            MemoryFile handle = file.Reopen(readOnly: true);
            CheckReport report = await ConsistencyCheck.RunAsync(handle);
            Assert.True(report.IsClean, report.ToString());
            BitmapDirectory directory = await BitmapImage.ListAsync(handle);
            Assert.Contains(directory.Bitmaps, bitmap => bitmap.Name == "last");
            foreach (StoredBitmap bitmap in directory.Bitmaps)
            {
                Assert.True(bitmap.IsConsistent);
                Assert.Equal(bits, await BitmapImage.ReadAsync(handle, bitmap));
            }
        }
    }

    // Each client has a region of its own, so that its bytes are known.
    private static async Task RunGuestAsync(BlockDevice device, byte[] expected, int client, Random random)
    {
        for (int i = 0; i < 120; i++)
        {
            int length = random.Next(1, 6000);
            int offset = (client * Region) + random.Next(Region - length);
            switch (random.Next(6))
            {
                case 0:
                    expected.AsSpan(offset, length).Clear();
                    await device.ZeroAsync(offset, length, ZeroFlags.MayUnmap);
                    break;
                case 1:
                    await device.FlushAsync();
                    break;
                default:
                    byte[] data = new byte[length];
                    random.NextBytes(data);
                    data.CopyTo(expected, offset);
                    await device.WriteAsync(offset, data);
                    break;
            }
        }
    }
}
