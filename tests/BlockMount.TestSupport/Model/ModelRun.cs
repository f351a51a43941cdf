using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Mutants;

namespace BlockMount.TestSupport.Model;

/// <summary>A disk did not do what its model says.</summary>
public sealed class ModelMismatchException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>
/// Runs a workload, one operation after the other, on a chain and on a byte array, and compares: after each read, after each discard, and the whole disk
/// whenever the image is closed. A closed image must be free of corruption and of leaks.
/// </summary>
public sealed class ModelRun
{
    private readonly TestChain _chain;
    private readonly Mutant? _mutant;
    private readonly byte[] _buffer;
    private readonly SnapshotModel _snapshots;
    private byte[] _model;
    private BlockDevice _device;

    private ModelRun(TestChain chain, BlockDevice device, long sizeMax, Mutant? mutant)
    {
        _chain = chain;
        _mutant = mutant;
        _device = device;
        _model = (byte[])chain.InitialContent.Clone();
        _buffer = new byte[sizeMax];
        _snapshots = new SnapshotModel(chain);
    }

    /// <summary>The disk's content as it must be.</summary>
    public ReadOnlyMemory<byte> Model => _model;

    /// <summary>Runs everything and closes the image.</summary>
    /// <param name="sizeMax">The largest size that the workload gives the disk.</param>
    /// <param name="mutant">A mistake for the top image; null for none.</param>
    /// <exception cref="ModelMismatchException">With the number of the operation that showed it.</exception>
    public static async ValueTask<ModelRun> RunAsync(
        ImageGeometry geometry, int seed, IReadOnlyList<GuestOperation> operations, long sizeMax, Mutant? mutant = null) =>
        await RunAsync(await TestChain.CreateAsync(geometry, seed), operations, sizeMax, mutant);

    /// <summary>Runs everything on <paramref name="chain"/>, whose top it changes, and closes the image.</summary>
    /// <inheritdoc cref="RunAsync(ImageGeometry, int, IReadOnlyList{GuestOperation}, long, Mutant?)"/>
    public static async ValueTask<ModelRun> RunAsync(
        TestChain chain, IReadOnlyList<GuestOperation> operations, long sizeMax, Mutant? mutant = null)
    {
        BlockDevice device = await chain.OpenAsync(chain.Top.Reopen(), mutant);
        ModelRun run = new(chain, device, Math.Max(sizeMax, chain.Geometry.Size), mutant);
        int number = 0;
        try
        {
            foreach (GuestOperation operation in operations)
            {
                await MustEndAtOnce(run.StepAsync(operation.ClippedTo(run._model.Length)));
                number++;
            }

            await MustEndAtOnce(run.CloseAsync());
        }
        catch (Exception error)
        {
            string what = number < operations.Count ? operations[number].ToString() : "the final close";
            throw new ModelMismatchException($"operation {number}, {what}: {error.Message}", error);
        }

        return run;
    }

    /// <summary>The chain, closed.</summary>
    public TestChain Chain => _chain;

    // Files in memory make nobody wait: whoever waits nevertheless waits for ever.
    private static ValueTask MustEndAtOnce(ValueTask step) =>
        step.IsCompleted ? step : throw new ModelMismatchException("deadlock: a single operation waits for something that never comes");

    private async ValueTask StepAsync(GuestOperation operation)
    {
        if (operation.Length == 0 && operation.Kind < GuestOperationKind.Flush)
        {
            return;
        }

        Memory<byte> range = operation.Kind < GuestOperationKind.Flush ? _model.AsMemory((int)operation.Offset, operation.Length) : default;
        switch (operation.Kind)
        {
            case GuestOperationKind.Read:
                await CompareAsync(operation.Offset, operation.Length);
                break;
            case GuestOperationKind.Write:
                byte[] data = operation.Data();
                await _device.WriteAsync(operation.Offset, data);
                data.CopyTo(range);
                break;
            case GuestOperationKind.Zero:
            case GuestOperationKind.ZeroMayUnmap:
                await _device.ZeroAsync(
                    operation.Offset, operation.Length, operation.Kind == GuestOperationKind.Zero ? ZeroFlags.None : ZeroFlags.MayUnmap);
                range.Span.Clear();
                break;
            case GuestOperationKind.Discard:
                await DiscardAsync(operation.Offset, operation.Length);
                break;
            case GuestOperationKind.Flush:
                await _device.FlushAsync();
                break;
            case GuestOperationKind.SnapshotCreate:
            case GuestOperationKind.SnapshotApply:
            case GuestOperationKind.SnapshotDelete:
                await ChangeSnapshotsAsync(operation);
                break;
            case GuestOperationKind.Resize:
                if (_chain.Geometry.Version == 2 && _snapshots.Names.Count > 0)
                {
                    // The format does not allow it.
                    break;
                }

                await _device.ResizeAsync(operation.Offset);
                Array.Resize(ref _model, (int)operation.Offset);
                await CompareAsync(0, _model.Length);
                break;
            default:
                await CloseAsync();
                _device = await _chain.OpenAsync(_chain.Top.Reopen(), _mutant);
                await CompareAsync(0, _model.Length);
                break;
        }
    }

    private async ValueTask ChangeSnapshotsAsync(GuestOperation operation)
    {
        string name = operation.SnapshotName;
        byte[]? content = _snapshots.Find(name);
        switch (operation.Kind)
        {
            case GuestOperationKind.SnapshotCreate when content is null && await _snapshots.HasRoomAsync(_device):
                await _device.CreateSnapshotAsync(name, SnapshotModel.Moment);
                if (!(await _snapshots.AddAsync(name, _chain.Top)).AsSpan().SequenceEqual(_model))
                {
                    throw new ModelMismatchException("the new snapshot holds something else than the disk");
                }

                break;
            case GuestOperationKind.SnapshotApply when content is not null:
                await _device.ApplySnapshotAsync(name);
                _model = (byte[])content.Clone();
                break;
            case GuestOperationKind.SnapshotDelete when content is not null:
                await _device.DeleteSnapshotAsync(name);
                _snapshots.Remove(name);
                break;
            default:
                return;
        }

        await CompareAsync(0, _model.Length);
        await CheckFileAsync();
    }

    // Every whole cluster may have become zeros; everything else stays.
    private async ValueTask DiscardAsync(long offset, int length)
    {
        await _device.DiscardAsync(offset, length);
        int cluster = _chain.Geometry.ClusterSize;
        long end = offset + length == _model.Length ? _model.Length : Alignment.Down(offset + length, cluster);
        for (long start = Alignment.Up(offset, cluster); start < end; start += cluster)
        {
            int step = (int)Math.Min(cluster, end - start);
            Memory<byte> read = _buffer.AsMemory(0, step);
            await _device.ReadAsync(start, read);
            if (!read.Span.ContainsAnyExcept((byte)0))
            {
                _model.AsSpan((int)start, step).Clear();
            }
        }

        await CompareAsync(offset, length);
    }

    private async ValueTask CompareAsync(long offset, int length)
    {
        Memory<byte> read = _buffer.AsMemory(0, length);
        read.Span.Fill(0xa5);
        await _device.ReadAsync(offset, read);
        int same = read.Span.CommonPrefixLength(_model.AsSpan((int)offset, length));
        if (same < length)
        {
            throw new ModelMismatchException(
                $"read of {length} bytes at {offset}: byte {offset + same} is {read.Span[same]:x2} instead of {_model[offset + same]:x2}");
        }
    }

    private async ValueTask CloseAsync()
    {
        if (_device.Size != _model.Length)
        {
            throw new ModelMismatchException($"the disk has {_device.Size} bytes instead of {_model.Length}");
        }

        await CompareAsync(0, _model.Length);
        await _device.DisposeAsync();
        await CheckFileAsync();
        await _snapshots.CheckAsync(_chain.Top);
    }

    private async ValueTask CheckFileAsync()
    {
        MemoryFile file = _chain.Top.Reopen(readOnly: true);
        CheckReport report = await ConsistencyCheck.RunAsync(file);
        if (!report.IsClean)
        {
            throw new ModelMismatchException($"with nothing in memory that waits to be written: {report}");
        }
    }
}
