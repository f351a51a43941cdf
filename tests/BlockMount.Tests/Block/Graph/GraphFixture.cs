using BlockMount.Block.Devices;
using BlockMount.Block.Filters;
using BlockMount.Block.Graph;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Storage;
using BlockMount.TestSupport;

namespace BlockMount.Tests.Block.Graph;

/// <summary>A graph over files in memory, or of the host, with the control loop that changes it.</summary>
internal sealed class GraphFixture : IAsyncDisposable
{
    internal GraphFixture(IStorageOpener? files = null, TimeProvider? time = null)
    {
        Files = files ?? new MemoryStorage();
        Graph = new NodeGraph(Files, new OpenPolicy()) { OnLeftover = Leftovers.Add, Time = time ?? TimeProvider.System };
        Loop = new ControlLoop(Graph);
    }

    internal IStorageOpener Files { get; }

    internal MemoryStorage Memory => (MemoryStorage)Files;

    internal NodeGraph Graph { get; }

    internal ControlLoop Loop { get; }

    /// <summary>What could not be closed; a test that does not expect any looks here at its end.</summary>
    internal List<Exception> Leftovers { get; } = [];

    /// <summary>Makes an empty qcow2 file in memory.</summary>
    internal async Task CreateImageAsync(string name, long size, BackingReference? backing = null, long clusterSize = 65536)
    {
        MemoryFile file = new(name);
        await Qcow2Create.CreateAsync(file, new Qcow2CreateOptions { Size = size, Backing = backing, ClusterSize = clusterSize });
        Memory.Add(name, file);
    }

    /// <summary>Opens an image and serves it as a device.</summary>
    internal async Task<BlockDevice> ServeAsync(string file, string device = "drive0", string node = "node0")
    {
        var top = await new ChainOpener(Files, Graph.Policy).OpenAsync(file, new ChainOpenOptions { NodeName = node });
        return await Loop.RunAsync(async scope =>
        {
            Graph.Adopt(scope, top);
            return await Graph.AddDeviceAsync(scope, top, new DeviceOptions { Name = device, Writable = true });
        });
    }

    /// <summary>Makes a throttle group, or gives it other limits.</summary>
    internal Task SetThrottleGroupAsync(string name, ThrottleLimits limits) => RunAsync(scope =>
    {
        Graph.SetThrottleGroup(scope, name, limits);
        return ValueTask.CompletedTask;
    });

    internal Task RunAsync(Func<ControlScope, ValueTask> action) => Loop.RunAsync(action);

    public async ValueTask DisposeAsync()
    {
        await Loop.DisposeAsync();
        await Graph.DisposeAsync();
    }
}
