using System.Buffers.Binary;
using System.Globalization;
using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Control.Json;
using BlockMount.Control.Schema;
using BlockMount.Formats;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Interop.Control.Live;

/// <summary>
/// Two disks change at one moment, again and again, while both are read and written: with overlays that were added before, with overlays that the transaction makes, and with transactions that fail.
/// A client writes each number to the first disk and then to the second: the frozen pair of a moment shows the same number, or the first disk is one ahead.
/// </summary>
[Collection(RunAlone.Name)]
public sealed class LiveTransactionTests(ITestOutputHelper output) : LiveFixture
{
    private const int Rounds = 12;
    private const int CounterOffset = 7 * Area;
    private const int CounterLength = 512;

    private readonly List<string> _second = [];
    private readonly List<(string First, string Second)> _frozen = [];
    private string _firstNode = "first";
    private string _secondNode = "second";

    [RequiresFuseFact("qemu-img")]
    public async Task TransactionsOfTwoDevices_DuringVerifiedIo_ShowOneMoment()
    {
        byte[] first = await OverlayAsync("base", "top", Layers);
        byte[] second = await OverlayAsync("base2", "top2", _second);
        TwoDisks disks = await TwoDisks.StartAsync(Layers[^1], _second[^1], this["m"], Monitor);
        long requests;
        double longest;
        await using (disks)
        {
            using TimedMonitor monitor = new(Monitor);
            StartServer(monitor);
            Export(monitor, "drive0", "disk");
            Export(monitor, "drive1", "second");
            monitor.Replies.Clear();
            requests = await UnderLoadAsync(monitor, first, second);
            longest = monitor.Replies.Max();
        }

        await ChainHoldsAsync(Layers, first);
        await ChainHoldsAsync(_second, second);
        int distinct = await PairsAgreeAsync();
        output.WriteLine($"longest reply {Ms(longest)}; {distinct} different numbers in {_frozen.Count} pairs");
        output.WriteLine(TestBudget.Count(2 * Rounds, "live transactions of two devices") + ", " + TestBudget.Count(requests, "requests verified during live transactions"));
        Assert.True(distinct > Rounds, "the numbers stood still");
        Assert.InRange(longest, 0, ReplyMsMax);
    }

    // Returns how many requests were found right.
    private async Task<long> UnderLoadAsync(TimedMonitor monitor, byte[] first, byte[] second)
    {
        using VerifiedLoad load = new(first);
        using VerifiedLoad other = new(second);
        using Counter counter = new(first, second, new FilePort(this["m"]), new NbdPort(Nbd, "second"));
        for (int i = 0; i < 2; i++)
        {
            load.Start(i, i * Area, Area, new FilePort(this["m"]), new NbdPort(Nbd, "disk"));
            other.Start(10 + i, i * Area, Area, new NbdPort(Nbd, "second"));
        }

        for (int round = 0; round < Rounds; round++)
        {
            await RoundAsync(monitor, round);
        }

        counter.Stop();
        load.Stop();
        other.Stop();
        return load.Requests + other.Requests;
    }

    private async Task RoundAsync(TimedMonitor monitor, int round)
    {
        string a = this[Name("failed a", round)];
        string b = this[Name("failed b", round)];
        CommandException aborted = Assert.Throws<CommandException>(() => Transaction(
            monitor, Sync(_firstNode, a, "fa"), Sync(_secondNode, b, "fb"), new JsonObject { ["type"] = "abort", ["data"] = new JsonObject() }));
        Assert.Equal("Transaction aborted using Abort action", aborted.Message);
        Assert.False(File.Exists(a) || File.Exists(b));

        (a, b) = (this[Name("made a", round)], this[Name("made b", round)]);
        _ = Transaction(monitor, Sync(_firstNode, a, Name("ma", round)), Sync(_secondNode, b, Name("mb", round)));
        Froze(a, b, Name("ma", round), Name("mb", round));
        await Task.Delay(20);

        (a, b) = (this[Name("added a", round)], this[Name("added b", round)]);
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-b", Layers[^1], "-F", "qcow2", a);
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-b", _second[^1], "-F", "qcow2", b);
        _ = monitor.Execute("blockdev-add", Qcow2(Name("aa", round), a, overlay: true));
        _ = monitor.Execute("blockdev-add", Qcow2(Name("ab", round), b, overlay: true));
        _ = Transaction(monitor, Snapshot(_firstNode, Name("aa", round)), Snapshot(_secondNode, Name("ab", round)));
        Froze(a, b, Name("aa", round), Name("ab", round));
    }

    private void Froze(string first, string second, string firstNode, string secondNode)
    {
        _frozen.Add((Layers[^1], _second[^1]));
        Layers.Add(first);
        _second.Add(second);
        (_firstNode, _secondNode) = (firstNode, secondNode);
    }

    // Returns how many different numbers there were.
    private async Task<int> PairsAgreeAsync()
    {
        HashSet<long> numbers = [];
        foreach ((string first, string second) in _frozen)
        {
            (long a, long b) = (await NumberAsync(first), await NumberAsync(second));
            Assert.True(a == b || a == b + 1, $"{first} shows {a}, {second} shows {b}: not one moment");
            _ = numbers.Add(a);
        }

        return numbers.Count;
    }

    private static async Task<long> NumberAsync(string image)
    {
        ChainOpenOptions options = new() { ReadOnly = true };
        await using BlockDevice device = new("disk", await new ChainOpener(PosixStorage.Instance, new OpenPolicy()).OpenAsync(image, options), readOnly: true);
        byte[] buffer = new byte[CounterLength];
        await device.ReadAsync(CounterOffset, buffer);
        return BinaryPrimitives.ReadInt64LittleEndian(buffer);
    }

    private static string Name(string name, int round) => string.Create(CultureInfo.InvariantCulture, $"{name}{round}");

    private static JsonValue Transaction(TimedMonitor monitor, params JsonObject[] actions) =>
        monitor.Execute("transaction", new JsonObject { ["actions"] = new JsonList(actions) });

    private static JsonObject Sync(string node, string file, string overlay) => new()
    {
        ["type"] = "blockdev-snapshot-sync",
        ["data"] = new JsonObject { ["node-name"] = node, ["snapshot-file"] = file, ["snapshot-node-name"] = overlay, ["format"] = "qcow2" },
    };

    private static JsonObject Snapshot(string node, string overlay) =>
        new() { ["type"] = "blockdev-snapshot", ["data"] = new JsonObject { ["node"] = node, ["overlay"] = overlay } };

    // What is added to become an overlay must not have its backing file already.
    private static JsonObject Qcow2(string node, string file, bool overlay)
    {
        JsonObject options = new() { ["driver"] = "qcow2", ["node-name"] = node, ["file"] = new JsonObject { ["driver"] = "file", ["filename"] = file } };
        options.SetOptional("backing", overlay ? JsonValue.Null : null);
        return options;
    }

    /// <summary>Writes 1, 2, 3 and so on, each to the first disk and when that is answered to the second.</summary>
    private sealed class Counter : IDisposable
    {
        private readonly IDiskPort[] _ports;
        private readonly byte[][] _models;
        private readonly Task _writing;
        private volatile bool _stop;

        public Counter(byte[] first, byte[] second, IDiskPort firstPort, IDiskPort secondPort)
        {
            _models = [first, second];
            _ports = [firstPort, secondPort];
            byte[] buffer = new byte[CounterLength];
            Put(buffer, 0);
            _writing = Task.Factory.StartNew(() => Write(buffer), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        }

        /// <summary>Ends it after a whole number.</summary>
        public void Stop()
        {
            _stop = true;
            Assert.True(_writing.Wait(TimeSpan.FromSeconds(60)), "a request is not answered");
        }

        public void Dispose()
        {
            _stop = true;
            _ = Task.WaitAny([_writing], TimeSpan.FromSeconds(5));
            Array.ForEach(_ports, port => port.Dispose());
        }

        private void Write(byte[] buffer)
        {
            for (long number = 1; !_stop; number++)
            {
                Put(buffer, number);
            }
        }

        private void Put(byte[] buffer, long number)
        {
            BinaryPrimitives.WriteInt64LittleEndian(buffer, number);
            for (int i = 0; i < 2; i++)
            {
                _ports[i].Write(CounterOffset, buffer, CounterLength);
                buffer.CopyTo(_models[i], CounterOffset);
            }
        }
    }
}
