using BlockMount.Base;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.TestSupport.Crash;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using BlockMount.TestSupport.Mutants;

namespace BlockMount.TestSupport.Simulation;

/// <summary>
/// One schedule from beginning to end: programs run at once on a copy of an image, and afterwards everything is judged. Every read saw values that were
/// current at some instant of it (linearizability, sector by sector), every program ended, no host range was touched while somebody else's I/O to it
/// was in flight, the closed image is free of corruption and leaks, and it and its snapshots read the same when opened again.
/// </summary>
public sealed class SimulationRun
{
    private readonly SimulationImage _image;
    private readonly IReadOnlyList<GuestProgram> _programs;
    private readonly Scheduler _scheduler;
    private readonly MemoryFile _memory;
    private readonly MemoryFile? _data;
    private readonly SnapshotModel _snapshots;
    private readonly ReferenceImage _reference;
    private readonly bool _resizes;
    private readonly List<byte[]>[] _reads;

    // What each program is doing.
    private readonly GuestOperation[] _now;
    private long _ticks;

    private SimulationRun(SimulationImage image, IReadOnlyList<GuestProgram> programs, Scheduler scheduler)
    {
        _image = image;
        _programs = programs;
        _scheduler = scheduler;
        _memory = image.CopyFile();
        _data = image.CopyDataFile();
        _snapshots = new SnapshotModel(image.Chain, _memory);
        _resizes = programs.Any(program => program.Resizes);
        _now = new GuestOperation[programs.Count];
        _reads = [.. programs.Select(_ => new List<byte[]>())];
        long largest = programs.SelectMany(program => program.Operations).Max(operation => operation.Kind == GuestOperationKind.Resize ? operation.Offset : 0);
        _reference = new ReferenceImage(Math.Max(image.Content.Length, largest), image.Content, Tick);
    }

    /// <summary>Runs one schedule.</summary>
    /// <param name="fault">A storage call that fails: number of the program, and which of its calls (from 1).</param>
    /// <param name="log">Gets a line for each step; null for none.</param>
    /// <returns>What came out of it.</returns>
    /// <exception cref="ScheduleFailedException">Something is wrong; the message tells the choices.</exception>
    public static SimulationOutcome Run(
        SimulationImage image,
        IReadOnlyList<GuestProgram> programs,
        ScheduleChooser chooser,
        (int Program, int Call)? fault = null,
        Mutant? mutant = null,
        List<string>? log = null)
    {
        Scheduler scheduler = new(log) { Fault = fault };
        try
        {
            SimulationRun run = new(image, programs, scheduler);
            MustEndAtOnce(run.RunAsync(chooser, mutant));
            return new SimulationOutcome(scheduler.FaultHit, run.Fingerprint(), scheduler.Choices.Count);
        }
        catch (Exception error) when (error is SimulationException or ModelMismatchException or BlockMountException or InvalidOperationException)
        {
            throw new ScheduleFailedException(error, new ScheduleName(image.Name, [.. programs.Select(program => program.Name)], fault, scheduler.Choices));
        }
    }

    private async ValueTask RunAsync(ScheduleChooser chooser, Mutant? mutant)
    {
        int clusterSize = _image.Chain.Geometry.ClusterSize;
        // The list of snapshots is looked for with reads that go past its end; everything else about snapshots has the image for itself.
        bool MayMeet(int left, int right) =>
            _now[left].IsSnapshot || _now[right].IsSnapshot || GuestProgram.Meet(_now[left], _now[right], clusterSize);
        ScheduledFile file = new(_memory, _scheduler, MayMeet);
        ScheduledFile? data = _data is null ? null : new(_data, _scheduler, MayMeet, number: 1);
        TestDisk disk = await _image.Chain.OpenDiskAsync(file, mutant, data);
        if (_image.Warm)
        {
            await disk.Device.ReadAsync(0, new byte[disk.Device.Size]);
        }

        for (int i = 0; i < _programs.Count; i++)
        {
            int number = i;
            ObservedDisk observed = new(disk, _reference, Tick, concurrent: true) { Read = _reads[i].Add, Snapshots = _snapshots };
            _scheduler.Start(() => RunProgramAsync(observed, number));
        }

        foreach (Exception? error in _scheduler.RunToEnd(chooser))
        {
            Judge(error);
        }

        await JudgeDiskAsync(disk);
    }

    private async Task RunProgramAsync(ObservedDisk disk, int number)
    {
        foreach (GuestOperation operation in _programs[number].Operations)
        {
            _now[number] = operation;
            await disk.RunAsync(operation);
        }
    }

    private void Judge(Exception? error)
    {
        // A request that the disk's new end overtook is refused, and so is a resize that a snapshot of a version 2 image overtook; these are the only
        // errors that nobody injected.
        bool refused = error is BlockIOException { Errno: Errno.EINVAL or Errno.ENOSPC or Errno.EOPNOTSUPP } && _resizes;
        if (error is not null && !refused && !(error is BlockIOException && _scheduler.FaultHit))
        {
            throw new SimulationException($"{error.GetType().Name}: {error.Message}\n{error.StackTrace}");
        }
    }

    private async ValueTask JudgeDiskAsync(TestDisk disk)
    {
        byte[] content = await ReadAsync(disk);
        bool closed = true;
        try
        {
            await disk.DisposeAsync();
        }
        catch (BlockIOException) when (_scheduler.FaultHit)
        {
            // After a failed flush the close fails as well, and what it would have written is lost.
            closed = false;
        }

        CheckReport report = await ConsistencyCheck.RunAsync(_memory.Reopen(readOnly: true));
        if (_scheduler.FaultHit ? report.Corruptions > 0 && !CrashImage.Excuses(_memory.Content, report) : !report.IsClean)
        {
            throw new SimulationException($"after the close: {report}");
        }

        TestDisk again = await _image.Chain.OpenDiskAsync(_memory.Reopen(), data: _data?.Reopen());
        byte[] reread = closed ? await ReadAsync(again) : content;
        await again.DisposeAsync();
        await _snapshots.CheckAsync();
        if (!content.AsSpan().SequenceEqual(reread))
        {
            int at = content.AsSpan().CommonPrefixLength(reread);
            throw new SimulationException($"closed and opened again the disk differs from byte {at} of {content.Length} on");
        }
    }

    private async ValueTask<byte[]> ReadAsync(TestDisk disk)
    {
        long now = Tick();
        if (!_reference.AdmitsSize(disk.Device.Size, now, now))
        {
            throw new SimulationException($"the disk has {disk.Device.Size} bytes");
        }

        byte[] content = new byte[disk.Device.Size];
        if (content.Length > 0)
        {
            await disk.Device.ReadAsync(0, content);
        }

        long foreign = _reference.FindForeignSector(0, content, now, Tick(), remember: true);
        if (foreign >= 0)
        {
            int at = (int)foreign * ReferenceImage.SectorSize;
            throw new SimulationException($"at the end: {_reference.Describe(foreign, content.AsSpan(at, ReferenceImage.SectorSize))}");
        }

        return content;
    }

    // Of what the programs read, in the order of programs, and of the file after the close.
    private int Fingerprint()
    {
        HashCode hash = default;
        foreach (List<byte[]> reads in _reads)
        {
            foreach (byte[] read in reads)
            {
                hash.AddBytes(read);
            }
        }

        hash.AddBytes(_memory.Content);
        hash.AddBytes(_data is null ? [] : _data.Content);
        return hash.ToHashCode();
    }

    private long Tick() => _ticks++;

    // Outside the schedule files complete at once, and so does everything else.
    private static void MustEndAtOnce(ValueTask work)
    {
        if (!work.IsCompleted)
        {
            throw new SimulationException("deadlock: opening, closing or reading alone waits for something that never comes");
        }

        work.GetAwaiter().GetResult();
    }
}

/// <summary>What came out of one schedule.</summary>
/// <param name="FaultHit">The fault that was asked for happened.</param>
/// <param name="Fingerprint">Of everything that can be seen: what was read, and the image file after the close.</param>
/// <param name="Steps">Steps of the schedule.</param>
public readonly record struct SimulationOutcome(bool FaultHit, int Fingerprint, int Steps);
