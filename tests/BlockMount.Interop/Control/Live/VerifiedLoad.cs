using System.Diagnostics;

namespace BlockMount.Interop.Control.Live;

/// <summary>
/// Random reads and writes of one disk by several threads, each in an area of its own that it alone writes, through any of the ways it was given: what is written through one must be read
/// through the others. Every byte read is compared with the model. Start, <see cref="Phase"/> any number of times, then stop.
/// </summary>
internal sealed class VerifiedLoad : IDisposable
{
    private const int LengthMax = 64 << 10;
    private const int ReadLength = 4 << 10;

    private readonly byte[] _model;
    private readonly List<Thread> _threads = [];
    private readonly List<IDiskPort> _ports = [];
    private readonly Lock _gate = new();
    private List<double> _reads = [];
    private volatile bool _stop;
    private volatile Exception? _failure;
    private long _requests;

    /// <param name="model">What the disk holds; changed as it is written.</param>
    public VerifiedLoad(byte[] model)
    {
        _model = model;
    }

    /// <summary>Requests answered, and found right, since the start.</summary>
    public long Requests => Interlocked.Read(ref _requests);

    /// <summary>Adds a thread for an area.</summary>
    /// <param name="ports">One is chosen for each request; taken over.</param>
    public void Start(int seed, int offset, int length, params IDiskPort[] ports)
    {
        _ports.AddRange(ports);
        Thread thread = new(() => Run(new Random(seed), offset, length, ports)) { IsBackground = true, Name = $"load {seed}" };
        _threads.Add(thread);
        thread.Start();
    }

    /// <summary>Ends a phase: its reads' latencies in milliseconds, sorted. The next one begins.</summary>
    /// <exception cref="InvalidOperationException">A request failed, or read a wrong byte.</exception>
    public double[] Phase()
    {
        ThrowIfFailed();
        lock (_gate)
        {
            List<double> reads = _reads;
            _reads = new List<double>(1 << 20);
            reads.Sort();
            return [.. reads];
        }
    }

    /// <summary>Ends the threads, each after the request that it is at.</summary>
    /// <exception cref="InvalidOperationException">See <see cref="Phase"/>; or a request is not answered.</exception>
    public void Stop()
    {
        _stop = true;
        foreach (Thread thread in _threads)
        {
            if (!thread.Join(TimeSpan.FromSeconds(60)))
            {
                throw new InvalidOperationException($"{thread.Name}: a request is not answered");
            }
        }

        _threads.Clear();
        ThrowIfFailed();
    }

    public void Dispose()
    {
        _stop = true;
        _ports.ForEach(port => port.Dispose());
    }

    private void ThrowIfFailed()
    {
        if (_failure is { } failure)
        {
            throw new InvalidOperationException(failure.Message, failure);
        }
    }

    private void Run(Random random, int offset, int length, IDiskPort[] ports)
    {
        byte[] buffer = new byte[LengthMax];
        try
        {
            for (long i = 0; !_stop; i++)
            {
                Step(random, offset, length, ports[random.Next(ports.Length)], buffer);
                _ = Interlocked.Increment(ref _requests);
            }
        }
        catch (Exception error)
        {
            _failure ??= error;
        }
    }

    private void Step(Random random, int offset, int length, IDiskPort port, byte[] buffer)
    {
        int kind = random.Next(1000);
        if (kind == 0)
        {
            port.Flush();
        }
        else if (kind < 700)
        {
            int at = offset + (random.Next((length - ReadLength) / 512) * 512);
            long begun = Stopwatch.GetTimestamp();
            port.Read(at, buffer, ReadLength);
            Took(Stopwatch.GetElapsedTime(begun));
            MustEqual(at, buffer, ReadLength, port);
        }
        else
        {
            int count = 512 * random.Next(1, 1 + (random.Next(8) == 0 ? LengthMax : ReadLength) / 512);
            int at = offset + (random.Next((length - count) / 512) * 512);
            random.NextBytes(buffer.AsSpan(0, count));
            port.Write(at, buffer, count);
            buffer.AsSpan(0, count).CopyTo(_model.AsSpan(at));
        }
    }

    private void MustEqual(int offset, byte[] actual, int length, IDiskPort port)
    {
        int same = _model.AsSpan(offset, length).CommonPrefixLength(actual.AsSpan(0, length));
        if (same < length)
        {
            throw new InvalidOperationException($"wrong byte at {offset + same} (read at {offset} through {port.GetType().Name})");
        }
    }

    private void Took(TimeSpan time)
    {
        lock (_gate)
        {
            _reads.Add(time.TotalMilliseconds);
        }
    }
}
