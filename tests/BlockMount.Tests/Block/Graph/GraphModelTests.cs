using BlockMount.Block.Devices;
using BlockMount.Block.Filters;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Block.Options;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Block.Graph;

/// <summary>
/// Random changes of the graph while guests write and check what they read: snapshots, backing changes, adds, deletes, reopens, resizes, throttle, freeze. Each guest owns a part of the disk and
/// knows each of its bytes. On threads: the order is the scheduler's.
/// </summary>
public sealed class GraphModelTests
{
    private const int GuestCount = 3;
    private const int GuestBytes = 256 << 10;
    private const long Size = (long)GuestCount * GuestBytes;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task RandomGraphChanges_UnderVerifiedWrites_LoseNoByte(int seed)
    {
        int operations = TestBudget.Scaled(5_000);
        await using GraphFixture fixture = new();
        await fixture.CreateImageAsync("base", Size, clusterSize: 4096);
        await fixture.SetThrottleGroupAsync("throttle0", new ThrottleLimits());
        await fixture.SetThrottleGroupAsync("throttle1", new ThrottleLimits());
        Node top = await fixture.Loop.RunAsync(scope => NodeOperations.AddAsync(scope, Changes.Throttled("base", "top", "throttle0")));
        BlockDevice device = await fixture.Loop.RunAsync(
            scope => fixture.Graph.AddDeviceAsync(scope, top, new DeviceOptions { Name = "drive0", Writable = true }));
        using CancellationTokenSource ended = new();
        Guest[] guests = [.. Enumerable.Range(0, GuestCount).Select(number => new Guest(device, number, seed))];
        Task[] running = [.. guests.Select(guest => Task.Run(() => guest.RunAsync(ended.Token)))];
        Changes changes = new(fixture, device, seed);
        for (int i = 0; i < operations && running.All(task => !task.IsCompleted); i++)
        {
            await changes.NextAsync().WaitAsync(TimeSpan.FromSeconds(30));
        }

        await ended.CancelAsync();
        await changes.SetLimitsAsync(new ThrottleLimits());
        await Task.WhenAll(running).WaitAsync(TimeSpan.FromSeconds(60));
        Assert.All(guests, guest => Assert.True(guest.Requests > 0));
        foreach (Guest guest in guests)
        {
            await guest.CheckAllAsync();
        }

        Assert.True(changes.Done.Values.All(count => count > 0), string.Join(", ", changes.Done));
        Assert.Empty(fixture.Leftovers);
        await fixture.DisposeAsync();
        Assert.Equal(0, fixture.Memory.OpenHandles);
    }

    /// <summary>A client that is the only one to write to its part of the disk.</summary>
    private sealed class Guest(BlockDevice device, int number, int seed)
    {
        private readonly byte[] _model = new byte[GuestBytes];
        private readonly Random _random = new((seed * 100) + number);

        internal int Requests { get; private set; }

        internal async Task RunAsync(CancellationToken ended)
        {
            while (!ended.IsCancellationRequested)
            {
                int offset = _random.Next(GuestBytes - 1);
                int length = _random.Next(1, Math.Min(16 << 10, GuestBytes - offset));
                await StepAsync(offset, length);
                Requests++;
                if (Requests % 16 == 0)
                {
                    await Task.Yield();
                }
            }
        }

        internal async Task CheckAllAsync()
        {
            byte[] read = new byte[GuestBytes];
            await device.ReadAsync((long)number * GuestBytes, read);
            Assert.True(read.AsSpan().SequenceEqual(_model), $"guest {number} reads something else at {read.AsSpan().CommonPrefixLength(_model)}");
        }

        private async Task StepAsync(int offset, int length)
        {
            long start = ((long)number * GuestBytes) + offset;
            switch (_random.Next(6))
            {
                case 0:
                    await device.ZeroAsync(start, length, ZeroFlags.MayUnmap);
                    _model.AsSpan(offset, length).Clear();
                    break;
                case 1:
                    await device.FlushAsync();
                    break;
                case 2 or 3:
                    byte[] written = new byte[length];
                    _random.NextBytes(written);
                    await device.WriteAsync(start, written);
                    written.CopyTo(_model.AsSpan(offset));
                    break;
                default:
                    byte[] read = new byte[length];
                    await device.ReadAsync(start, read);
                    Assert.True(read.AsSpan().SequenceEqual(_model.AsSpan(offset, length)), $"guest {number} reads something else at {offset}");
                    break;
            }
        }
    }

    /// <summary>The administrator.</summary>
    private sealed class Changes(GraphFixture fixture, BlockDevice device, int seed)
    {
        private const int DepthMax = 12;

        private readonly Random _random = new(seed);
        private int _made;

        internal Dictionary<string, int> Done { get; } = new(StringComparer.Ordinal)
        {
            ["snapshot-sync"] = 0,
            ["snapshot"] = 0,
            ["aborted"] = 0,
            ["add+del"] = 0,
            ["reopen"] = 0,
            ["resize"] = 0,
            ["freeze"] = 0,
            ["limits"] = 0,
            ["flatten"] = 0,
        };

        internal static ThrottleNodeOptions Throttled(string file, string node, string group) => new()
        {
            NodeName = node,
            Group = group,
            File = ChildOption.Of(new Qcow2NodeOptions { NodeName = node + "-fmt", NoBacking = true, File = ChildOption.Of(new FileNodeOptions { FileName = file }) }),
        };

        internal Task NextAsync() => Depth() >= DepthMax ? FlattenAsync() : _random.Next(9) switch
        {
            0 or 1 => SnapshotSyncAsync(),
            2 => SnapshotAsync(),
            3 => AbortedAsync(),
            4 => AddAndDeleteAsync(),
            5 => ReopenAsync(),
            6 => ResizeAsync(),
            7 => FreezeAsync(),
            _ => LimitsAsync(),
        };

        private int Depth()
        {
            int depth = 0;
            for (Node? node = Image(); node is not null; node = node.Backing)
            {
                depth++;
            }

            return depth;
        }

        private FormatNode Image() => Image(device.Root);

        private static FormatNode Image(Node node) => node is FilterNode filter ? Image(filter.Child) : (FormatNode)node;

        // The snapshot goes under the throttle filter or above it: both must hold.
        private async Task SnapshotSyncAsync()
        {
            string name = $"o{++_made}";
            string node = _random.Next(4) == 0 ? device.Root.Name : Image().Name;
            await fixture.RunAsync(scope => SnapshotOperations.SnapshotSyncAsync(
                scope, new SnapshotSyncOptions { NodeName = node, SnapshotFile = name, SnapshotNodeName = name }));
            Done["snapshot-sync"]++;
        }

        private async Task SnapshotAsync()
        {
            string name = $"n{++_made}";
            await fixture.CreateImageAsync(name, device.Size, new BackingReference("whatever", "qcow2"), clusterSize: 4096);
            await fixture.RunAsync(async scope =>
            {
                await NodeOperations.AddAsync(scope, new Qcow2NodeOptions
                {
                    NodeName = name,
                    NoBacking = true,
                    File = ChildOption.Of(new FileNodeOptions { FileName = name }),
                });
                await SnapshotOperations.SnapshotAsync(scope, Image().Name, name);
            });
            Done["snapshot"]++;
        }

        private async Task AbortedAsync()
        {
            string before = device.Root.Name;
            int files = fixture.Memory.Names.Count;
            await Assert.ThrowsAsync<GraphException>(() => fixture.RunAsync(scope => GraphTransaction.RunAsync(
                scope,
                transaction => SnapshotOperations.SnapshotSyncAsync(transaction, new SnapshotSyncOptions { Device = "drive0", SnapshotFile = "aborted" }),
                _ => throw new GraphException("Transaction aborted using Abort action"))));
            Assert.Equal(before, device.Root.Name);
            Assert.Equal(files, fixture.Memory.Names.Count);
            Done["aborted"]++;
        }

        private async Task AddAndDeleteAsync()
        {
            string name = $"x{++_made}";
            await fixture.CreateImageAsync(name, Size);
            await fixture.RunAsync(async scope =>
            {
                await NodeOperations.AddAsync(scope, Throttled(name, name, "throttle1"));
                await NodeOperations.DeleteAsync(scope, name);
            });
            Done["add+del"]++;
        }

        private async Task ReopenAsync()
        {
            FormatNode image = Image();
            await fixture.RunAsync(scope => NodeOperations.ReopenAsync(scope, [new Qcow2NodeOptions
            {
                NodeName = image.Name,
                File = FileOf(image),
                NoBacking = image.Backing is null,
                Backing = image.Backing is { } backing ? ChildOption.Of(backing.Name) : null,
                Runtime = new Qcow2RuntimeOptions { CacheBytes = 1 << _random.Next(16, 21) },
            }]));
            Done["reopen"]++;
        }

        // By its name, or by its options if it is described within the image's.
        private ChildOption FileOf(FormatNode image)
        {
            Node file = image.ChildIn(NodeEdge.FileRole)!.Child;
            return file.IsMonitorOwned || _random.Next(2) == 0
                ? ChildOption.Of(file.Name)
                : ChildOption.Of(new FileNodeOptions { FileName = file.FileName, Direct = _random.Next(2) == 0 });
        }

        private async Task ResizeAsync()
        {
            await device.ResizeAsync(Size + (_random.Next(4) * 65536));
            Done["resize"]++;
        }

        private async Task FreezeAsync()
        {
            await SetLimitsAsync(new ThrottleLimits());
            await NodeOperations.FreezeAsync([device]);
            byte[] first = new byte[GuestBytes];
            byte[] second = new byte[GuestBytes];
            await device.ReadAsync(0, first);
            await Task.Yield();
            await device.ReadAsync(0, second);
            NodeOperations.Thaw([device]);
            Assert.True(first.AsSpan().SequenceEqual(second), "somebody wrote while writes were frozen");
            Done["freeze"]++;
        }

        // Sometimes so tight that guests wait for seconds, unless somebody drains.
        private async Task LimitsAsync()
        {
            ThrottleLimits limits = _random.Next(3) switch
            {
                0 => new ThrottleLimits { BpsTotal = new ThrottleLimit(64 << 10) },
                1 => new ThrottleLimits { IopsWrite = new ThrottleLimit(2_000, 20_000) },
                _ => new ThrottleLimits(),
            };
            await SetLimitsAsync(limits);
            Done["limits"]++;
        }

        internal Task SetLimitsAsync(ThrottleLimits limits) => fixture.SetThrottleGroupAsync("throttle0", limits);

        // As a stream job would: everything is copied up with the writes frozen, then the chain below is let go.
        private async Task FlattenAsync()
        {
            await fixture.RunAsync(async scope =>
            {
                fixture.Graph.SetThrottleGroup(scope, "throttle0", new ThrottleLimits());
                await GraphTransaction.RunAsync(scope, async transaction =>
                {
                    FormatNode image = Image();
                    await transaction.DrainAsync(image);
                    await CopyUpAsync(image);
                    transaction.Detach(image.ChildIn(NodeEdge.BackingRole)!);
                });
            });
            Done["flatten"]++;
            await DeleteUnusedAsync();
        }

        private static async Task CopyUpAsync(FormatNode image)
        {
            byte[] all = new byte[image.Size];
            await image.ReadAsync(0, all);
            await image.WriteAsync(0, all);
        }

        // Nodes that were added by name stay when nobody uses them (N6).
        private Task DeleteUnusedAsync() => fixture.RunAsync(async scope =>
        {
            foreach (Node node in fixture.Graph.Nodes.Where(node => node.IsMonitorOwned && node.Parents.Count == 0))
            {
                await NodeOperations.DeleteAsync(scope, node.Name);
            }

            fixture.Memory.Keep([.. fixture.Graph.Nodes.OfType<FileNode>().Select(node => node.FileName)]);
        });
    }
}
