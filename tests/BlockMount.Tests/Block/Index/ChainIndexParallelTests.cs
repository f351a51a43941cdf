using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Formats;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Block.Index;

/// <summary>
/// Real threads on one disk over a random chain with an index that forgets all the time. Each thread has stripes of its own, which it reads, writes, zeroes and
/// discards, and compares with its own bytes; the last stripe nobody changes. Clusters are shared between threads. Between phases a snapshot is taken or
/// applied, or the disk is resized.
/// </summary>
[Trait("Suite", "Random")]
public sealed class ChainIndexParallelTests(ITestOutputHelper output)
{
    private const int SizeMax = 128 << 10;
    private const int Stripe = 1536;
    private const int Writers = 3;
    private const int Readers = 2;
    private const int Phases = 4;
    private const int OperationsPerThread = 250;
    private const int FirstSeed = 7_100_000;
    private const int Runs = 40;

    [Fact]
    public async Task ThreadsOnTheirOwnStripes_ReadWhatTheyWrote_AndOthersWhatWasBelow()
    {
        int operations = 0;
        foreach (int seed in TestBudget.Seeds(FirstSeed, Runs))
        {
            try
            {
                operations += await RunAsync(seed);
            }
            catch (ModelMismatchException error)
            {
                throw new ModelMismatchException($"{error.Message}\n{TestBudget.Replay(seed, nameof(ChainIndexParallelTests))}", error);
            }
        }

        output.WriteLine(TestBudget.Count(operations, "operations of parallel threads over an index", Runs * Phases * OperationsPerThread * (Writers + Readers)));
    }

    private static async Task<int> RunAsync(int seed)
    {
        Random random = new(seed);
        LayeredChain chain = await LayeredChain.CreateAsync(random, random.Next(1, 9), SizeMax);
        int size = (int)Alignment.Up(Math.Max(chain.Content.Length, 20 * Stripe), 512);
        ImageGeometry geometry = new() { ClusterBits = random.Next(9, 14), Size = size, TinyCache = random.Next(2) == 0 };
        byte[] model = new byte[size];
        chain.Content.CopyTo(model, 0);
        await using BlockDevice device = new("test", await chain.OpenUnderAsync(geometry, indexBytes: random.Next(2) == 0 ? 512 : 2048), readOnly: false);
        for (int phase = 0; phase < Phases; phase++)
        {
            Task[] threads =
            [
                .. Enumerable.Range(0, Writers).Select(number => StartAsync(device, model, random.Next(), number, changes: true)),
                .. Enumerable.Range(0, Readers).Select(_ => StartAsync(device, model, random.Next(), Writers, changes: false)),
            ];
            await Task.WhenAll(threads);
            await BetweenPhasesAsync(device, model, phase);
        }

        return Phases * OperationsPerThread * (Writers + Readers);
    }

    private static Task StartAsync(BlockDevice device, byte[] model, int seed, int number, bool changes) =>
        Task.Run(async () =>
        {
            Worker worker = new(device, model, new Random(seed), number);
            for (int i = 0; i < OperationsPerThread; i++)
            {
                await worker.StepAsync(changes);
            }
        });

    private static async Task BetweenPhasesAsync(BlockDevice device, byte[] model, int phase)
    {
        await CompareAllAsync(device, model);
        switch (phase)
        {
            case 0:
                await device.CreateSnapshotAsync("s", SnapshotModel.Moment);
                byte[] kept = [.. model];
                await device.ZeroAsync(0, device.Size / 2, ZeroFlags.MayUnmap);
                await device.ApplySnapshotAsync("s");
                await CompareAllAsync(device, kept);
                break;
            case 1:
                await device.ResizeAsync(device.Size + Stripe);
                await device.ResizeAsync(model.Length);
                break;
            default:
                await device.FlushAsync();
                break;
        }

        await CompareAllAsync(device, model);
    }

    private static async Task CompareAllAsync(BlockDevice device, byte[] model)
    {
        byte[] all = new byte[model.Length];
        await device.ReadAsync(0, all);
        MustBeEqual(all, model, 0);
    }

    private static void MustBeEqual(ReadOnlySpan<byte> read, ReadOnlySpan<byte> expected, long offset)
    {
        int same = read.CommonPrefixLength(expected);
        if (same < read.Length)
        {
            throw new ModelMismatchException($"read of {read.Length} bytes at {offset}: byte {offset + same} is {read[same]:x2} instead of {expected[same]:x2}");
        }
    }

    /// <summary>One thread: touches the stripes of its number only, in the disk and in the model.</summary>
    private sealed class Worker(BlockDevice device, byte[] model, Random random, int number)
    {
        private readonly byte[] _buffer = new byte[Stripe];

        public async Task StepAsync(bool changes)
        {
            int stripes = model.Length / Stripe;
            int stripe = (random.Next(stripes / (Writers + 1)) * (Writers + 1)) + number;
            if (stripe >= stripes)
            {
                return;
            }

            int start = random.Next(Stripe);
            int length = random.Next(3) == 0 ? Stripe - start : random.Next(1, Stripe - start + 1);
            int offset = (stripe * Stripe) + start;
            switch (changes ? random.Next(10) : 0)
            {
                case 6 or 7:
                    random.NextBytes(model.AsSpan(offset, length));
                    await device.WriteAsync(offset, model.AsMemory(offset, length));
                    break;
                case 8:
                    model.AsSpan(offset, length).Clear();
                    await device.ZeroAsync(offset, length, random.Next(2) == 0 ? ZeroFlags.None : ZeroFlags.MayUnmap);
                    break;
                case 9:
                    await DiscardAsync(offset, length);
                    break;
                default:
                    await device.ReadAsync(offset, _buffer.AsMemory(0, length));
                    MustBeEqual(_buffer.AsSpan(0, length), model.AsSpan(offset, length), offset);
                    break;
            }
        }

        // Each byte is what it was, or zero from now on.
        private async Task DiscardAsync(int offset, int length)
        {
            await device.DiscardAsync(offset, length);
            await device.ReadAsync(offset, _buffer.AsMemory(0, length));
            for (int i = 0; i < length; i++)
            {
                if (_buffer[i] != 0)
                {
                    MustBeEqual(_buffer.AsSpan(i, 1), model.AsSpan(offset + i, 1), offset + i);
                }

                model[offset + i] = _buffer[i];
            }
        }
    }
}
