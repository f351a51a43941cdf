using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Storage;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Model;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Model;

/// <summary>
/// Clients on real threads, over a chain of real files, with each engine, through the page cache and past it: what each reads in the stripes that are its own is what
/// it wrote, and after each close the image is clean and reads as the model. Clusters are shared between clients, and the caches are so small that
/// tables are read again all the time.
/// </summary>
[Trait("Suite", "Random")]
public sealed class EngineModelTests(ITestOutputHelper output) : IDisposable
{
    private const int Size = 1 << 20;
    private const int Page = 4096;

    // Clients meet in the middle of a page, and each stripe has a whole one.
    private const int Stripe = 10_240;
    private const int Clients = 6;
    private const int Phases = 3;
    private const int OperationsPerClient = 120;
    private const int FirstSeed = 8_400_000;
    private const int Runs = 6;

    private readonly ScratchFolder _folder = new();

    /// <summary>Without io_uring its rows are missing; <see cref="Storage.UringEngineTests"/> tells the reason.</summary>
    public static TheoryData<IoEngine, bool> Engines
    {
        get
        {
            TheoryData<IoEngine, bool> engines = [];
            foreach (IoEngine engine in Enum.GetValues<IoEngine>())
            {
                if (engine != IoEngine.IoUring || Requirements.WhatIsMissing(Needs.IoUring) is null)
                {
                    engines.Add(engine, false);
                    engines.Add(engine, true);
                }
            }

            return engines;
        }
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Engines))]
    public async Task ParallelOperations_OnRealFiles_MatchTheModelAndLeaveACleanImage(IoEngine engine, bool direct)
    {
        int operations = 0;
        foreach (int seed in TestBudget.Seeds(FirstSeed, Runs))
        {
            try
            {
                await RunAsync(seed, new ChainOpenOptions { Engine = engine, Direct = direct, MetadataCacheBytes = 4096 });
                operations += Phases * Clients * OperationsPerClient;
            }
            catch (ModelMismatchException error)
            {
                throw new ModelMismatchException($"{error.Message}\n{TestBudget.Replay(seed, nameof(EngineModelTests))}", error);
            }
        }

        output.WriteLine(TestBudget.Count(operations, $"operations on real files, engine {engine}, {(direct ? "direct" : "cached")}", Runs * Phases * Clients * OperationsPerClient));
    }

    private async Task RunAsync(int seed, ChainOpenOptions options)
    {
        Random random = new(seed);
        byte[] model = new byte[Size];
        string top = await MakeAsync(random, model, seed);
        for (int phase = 0; phase < Phases; phase++)
        {
            await using (BlockDevice device = await OpenAsync(top, options))
            {
                CompareAll(await ReadAllAsync(device), model);
                int phaseSeed = random.Next();
                Task[] clients = [.. Enumerable.Range(0, Clients).Select(number => Task.Run(() => RunClientAsync(device, model, phaseSeed + number, number)))];
                await Task.WhenAll(clients).WaitAsync(TimeSpan.FromSeconds(60));
                await ChangeAllAsync(device, model, phase);
                CompareAll(await ReadAllAsync(device), model);
            }

            await using StorageFile closed = await PosixStorage.Instance.OpenAsync(top, new StorageOpenOptions { ReadOnly = true });
            CheckReport report = await ConsistencyCheck.RunAsync(closed);
            if (!report.IsClean)
            {
                throw new ModelMismatchException($"after phase {phase}: {report}");
            }
        }
    }

    // A raw base that is shorter than the disk and ends inside a block, and two images of different clusters on it.
    private async Task<string> MakeAsync(Random random, byte[] model, int seed)
    {
        int baseLength = random.Next(Size / 2 / 512, Size / 512) * 512;
        random.NextBytes(model.AsSpan(0, baseLength));
        await File.WriteAllBytesAsync(_folder[$"base{seed}"], model[..baseLength]);
        await CreateAsync($"middle{seed}", 1 << random.Next(12, 17), new BackingReference($"base{seed}", "raw"));
        await using (BlockDevice middle = await OpenAsync(_folder[$"middle{seed}"], new ChainOpenOptions()))
        {
            for (int i = 0; i < 6; i++)
            {
                int offset = random.Next(Size - 50_000);
                random.NextBytes(model.AsSpan(offset, 50_000));
                await middle.WriteAsync(offset, model.AsMemory(offset, 50_000));
            }
        }

        await CreateAsync($"top{seed}", 1 << random.Next(9, 17), new BackingReference($"middle{seed}", "qcow2"));
        return _folder[$"top{seed}"];
    }

    private async Task CreateAsync(string name, int clusterSize, BackingReference backing)
    {
        await File.WriteAllBytesAsync(_folder[name], []);
        await using StorageFile file = await PosixStorage.Instance.OpenAsync(_folder[name], new StorageOpenOptions());
        await Qcow2Create.CreateAsync(file, new Qcow2CreateOptions { Size = Size, ClusterSize = clusterSize, Backing = backing });
    }

    private static async Task<BlockDevice> OpenAsync(string path, ChainOpenOptions options) =>
        new("disk0", await new ChainOpener(PosixStorage.Instance, new OpenPolicy()).OpenAsync(path, options), readOnly: false);

    private static async Task RunClientAsync(BlockDevice device, byte[] model, int seed, int number)
    {
        // Only aligned memory goes to the disk without a copy.
        using AlignedBuffer buffer = new(Stripe);
        await new Client(device, model, buffer, new Random(seed), number).RunAsync();
    }

    private static async Task ChangeAllAsync(BlockDevice device, byte[] model, int phase)
    {
        if (phase == 0)
        {
            await device.CreateSnapshotAsync("s", SnapshotModel.Moment);
            await device.ZeroAsync(Size / 4, Size / 2, ZeroFlags.MayUnmap);
            await device.ApplySnapshotAsync("s");
        }
        else if (phase == 1)
        {
            await device.WriteAsync(Size - 700, model.AsMemory(Size - 700));
            await device.DeleteSnapshotAsync("s");
        }

        await device.FlushAsync();
    }

    private static async Task<byte[]> ReadAllAsync(BlockDevice device)
    {
        byte[] all = new byte[Size];
        await device.ReadAsync(0, all);
        return all;
    }

    private static void CompareAll(ReadOnlySpan<byte> read, ReadOnlySpan<byte> model, int offset = 0)
    {
        int same = read.CommonPrefixLength(model);
        if (same < read.Length)
        {
            throw new ModelMismatchException($"byte {offset + same} is {read[same]:x2} instead of {model[same]:x2}");
        }
    }

    /// <summary>Touches the stripes of its number only, in the disk and in the model.</summary>
    private sealed class Client(BlockDevice device, byte[] model, AlignedBuffer buffer, Random random, int number)
    {
        public async Task RunAsync()
        {
            for (int i = 0; i < OperationsPerClient; i++)
            {
                int stripe = ((random.Next(Size / Stripe / Clients) * Clients) + number) * Stripe;
                int start = stripe + random.Next(Stripe);
                int length = random.Next(1, stripe + Stripe - start + 1);
                if (random.Next(2) == 0)
                {
                    start = (int)Alignment.Up(stripe, Page);
                    length = (int)Alignment.Down(stripe + Stripe - start, Page);
                }

                await StepAsync(start, length);
            }
        }

        private async Task StepAsync(int offset, int length)
        {
            switch (random.Next(12))
            {
                case 0:
                    await device.FlushAsync();
                    break;
                case 1:
                    model.AsSpan(offset, length).Clear();
                    await device.ZeroAsync(offset, length, random.Next(2) == 0 ? ZeroFlags.None : ZeroFlags.MayUnmap);
                    break;
                case 2:
                    await DiscardAsync(offset, length);
                    break;
                case > 7:
                    await device.ReadAsync(offset, buffer.Memory[..length]);
                    CompareAll(buffer.GetSpan()[..length], model.AsSpan(offset, length), offset);
                    break;
                default:
                    random.NextBytes(model.AsSpan(offset, length));
                    model.AsSpan(offset, length).CopyTo(buffer.GetSpan());
                    await device.WriteAsync(offset, buffer.Memory[..length]);
                    break;
            }
        }

        // Each byte is what it was, or zero from now on.
        private async Task DiscardAsync(int offset, int length)
        {
            await device.DiscardAsync(offset, length);
            await device.ReadAsync(offset, buffer.Memory[..length]);
            Span<byte> read = buffer.GetSpan()[..length];
            for (int i = 0; i < length; i++)
            {
                model[offset + i] = read[i] == 0 ? (byte)0 : model[offset + i];
            }

            CompareAll(read, model.AsSpan(offset, length), offset);
        }
    }
}
