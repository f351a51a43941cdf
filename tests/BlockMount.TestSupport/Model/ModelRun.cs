using BlockMount.Base;
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
    private readonly DiskModel _model;
    private readonly SnapshotModel _snapshots;
    private TestDisk _disk;

    private ModelRun(TestChain chain, TestDisk disk, long sizeMax, Mutant? mutant)
    {
        _chain = chain;
        _mutant = mutant;
        _disk = disk;
        _model = new DiskModel(chain.InitialContent);
        _buffer = new byte[sizeMax];
        _snapshots = new SnapshotModel(chain, chain.Top);
    }

    /// <summary>The disk's content as it must be.</summary>
    public ReadOnlyMemory<byte> Model => _model.Content;

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
        TestDisk disk = await chain.OpenDiskAsync(chain.Top.Reopen(), mutant);
        ModelRun run = new(chain, disk, Math.Max(sizeMax, chain.Geometry.Size), mutant);
        int number = 0;
        try
        {
            foreach (GuestOperation operation in operations)
            {
                await MustEndAtOnce(run.StepAsync(operation.ClippedTo(run._model.Size)));
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
        if (operation.IsEmpty)
        {
            return;
        }

        switch (operation.Kind)
        {
            case GuestOperationKind.Read:
                await CompareAsync(operation.Offset, operation.Length);
                break;
            case GuestOperationKind.Discard:
                await DiscardAsync(operation);
                break;
            case GuestOperationKind.Reopen:
                await CloseAsync();
                _disk = await _chain.OpenDiskAsync(_chain.Top.Reopen(), _mutant);
                await CompareAsync(0, _model.Size);
                break;
            case GuestOperationKind.Resize when _snapshots.ForbidsResize:
                break;
            case GuestOperationKind.SnapshotCreate:
            case GuestOperationKind.SnapshotApply:
            case GuestOperationKind.SnapshotDelete:
                await ChangeSnapshotsAsync(operation);
                break;
            default:
                await _disk.ApplyAsync(operation);
                _model.Apply(operation);
                if (!operation.HasRange && operation.Kind != GuestOperationKind.Flush)
                {
                    await CompareAsync(0, _model.Size);
                }

                break;
        }
    }

    private async ValueTask ChangeSnapshotsAsync(GuestOperation operation)
    {
        string name = operation.SnapshotName;
        switch (operation.Kind)
        {
            case GuestOperationKind.SnapshotCreate when await _snapshots.CreateAsync(_disk.Device, name) is { } taken:
                if (!taken.AsSpan().SequenceEqual(_model.Content.Span))
                {
                    throw new ModelMismatchException("the new snapshot holds something else than the disk");
                }

                break;
            case GuestOperationKind.SnapshotApply when await _snapshots.ApplyAsync(_disk.Device, name):
                _model.Replace(_snapshots.Find(name));
                break;
            case GuestOperationKind.SnapshotDelete when await _snapshots.DeleteAsync(_disk.Device, name):
                break;
            default:
                return;
        }

        await CompareAsync(0, _model.Size);
        await CheckFileAsync();
    }

    // Every whole cluster may have become zeros; everything else stays.
    private async ValueTask DiscardAsync(GuestOperation operation)
    {
        await _disk.ApplyAsync(operation);
        int cluster = _chain.Geometry.ClusterSize;
        long end = operation.Offset + operation.Length;
        end = end == _model.Size ? end : Alignment.Down(end, cluster);
        for (long start = Alignment.Up(operation.Offset, cluster); start < end; start += cluster)
        {
            int step = (int)Math.Min(cluster, end - start);
            Memory<byte> read = _buffer.AsMemory(0, step);
            await _disk.Device.ReadAsync(start, read);
            if (!read.Span.ContainsAnyExcept((byte)0))
            {
                _model.Apply(operation with { Offset = start, Length = step });
            }
        }

        await CompareAsync(operation.Offset, operation.Length);
    }

    private async ValueTask CompareAsync(long offset, int length)
    {
        Memory<byte> read = _buffer.AsMemory(0, length);
        read.Span.Fill(0xa5);
        await _disk.Device.ReadAsync(offset, read);
        ReadOnlySpan<byte> model = _model.Content.Span.Slice((int)offset, length);
        int same = read.Span.CommonPrefixLength(model);
        if (same < length)
        {
            throw new ModelMismatchException(
                $"read of {length} bytes at {offset}: byte {offset + same} is {read.Span[same]:x2} instead of {model[same]:x2}");
        }
    }

    // What QEMU makes may reach to the end of the last cluster, with zeros.
    private static bool IsRawImage(ReadOnlySpan<byte> file, ReadOnlySpan<byte> disk) =>
        file.Length >= disk.Length && file[..disk.Length].SequenceEqual(disk) && !file[disk.Length..].ContainsAnyExcept((byte)0);

    private async ValueTask CloseAsync()
    {
        if (_disk.Device.Size != _model.Size)
        {
            throw new ModelMismatchException($"the disk has {_disk.Device.Size} bytes instead of {_model.Size}");
        }

        await CompareAsync(0, _model.Size);
        await _disk.DisposeAsync();
        if (_chain.Geometry.DataFile == DataFileKind.Raw && !IsRawImage(_chain.Data!.ToArray(), _model.Content.Span))
        {
            throw new ModelMismatchException("after a clean close the raw data file is another disk than the image");
        }

        await CheckFileAsync();
        await _snapshots.CheckAsync();
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
