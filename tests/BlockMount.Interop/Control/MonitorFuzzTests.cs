using System.Globalization;
using System.Net.Sockets;
using System.Text;
using BlockMount.Control.Json;
using BlockMount.Control.Schema;
using BlockMount.Interop.Cli;
using BlockMount.Tests.Control.Fuzz;
using BlockMount.TestSupport;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Interop.Control;

/// <summary>Random messages and lines for the monitors of a running daemon: each is answered, and afterwards the daemon serves as before and holds no more than before.</summary>
public sealed class MonitorFuzzTests(ITestOutputHelper output) : CliFixture
{
    private const int Each = 5000;
    private const int FirstSeed = 700_000;
    private const string Prompt = "(qemu) ";

    // The daemon's own working set while it is fed; an idle one has a third of it.
    private const long ResidentBytesMax = 512L << 20;

    // Timers and threads of the runtime.
    private const int DescriptorSlack = 4;

    // What ends it, stops I/O for good, or listens where this test does not want it.
    private static readonly string[] s_barred = ["quit", "stop", "nbd-server-start", "nbd_server_start", "chardev-add"];

    private static readonly TimeSpan s_limit = TimeSpan.FromMinutes(5);

    [RequiresReleaseFact("qemu-img")]
    public async Task TenThousandRandomLinesAndMessages_LeaveTheDaemonAsItWas()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["a"], "1M");
        // Relative names are names in the test's folder.
        (await ToolProcess.RunAsync(
            "/bin/sh", "-c", $"cd '{Folder.FullPath}' && BLOCKMOUNT_RUNTIME_DIR='{this["run"]}' exec '{ReleaseBinary.FullPath}' a m --qmp q --monitor h")).MustSucceed();
        int pid = Assert.Single(await PidsAsync());
        await LinesAsync(FirstSeed, Each / 10);
        await MessagesAsync(FirstSeed, Each / 10);
        await TidyAsync();
        int before = Directory.GetFiles($"/proc/{pid}/fd").Length - await FilesAsync();

        await LinesAsync(FirstSeed + Each, Each).WaitAsync(s_limit);
        await MessagesAsync(FirstSeed + Each, Each).WaitAsync(s_limit);
        await TidyAsync();
        long resident = Resident(pid);
        // A snapshot that a random line took keeps its image open, rightly.
        int files = await FilesAsync();
        int after = await DescriptorsAsync(pid, files + before + DescriptorSlack) - files;
        output.WriteLine(TestBudget.Count(2 * TestBudget.Scaled(Each), "random lines and messages answered by the daemon", promised: 2 * Each)
            + $"; descriptors {before} and {after} beside files of nodes, resident {resident >> 20} MiB");
        Assert.InRange(after, 0, before + DescriptorSlack);
        Assert.InRange(resident, 0, ResidentBytesMax);

        (await RunAsync("qmp", this["q"], "query-block")).MustSucceed();
        (await RunAsync("qmp", this["q"], "quit")).MustSucceed();
        for (int i = 0; i < 200 && (await PidsAsync()).Length > 0; i++)
        {
            await Task.Delay(50);
        }

        Assert.Empty(await PidsAsync());
        Assert.False(File.Exists(this["q"]) || File.Exists(this["h"]));
        await QemuImg.RunAsync("check", "-q", this["a"]);
    }

    private async Task LinesAsync(int first, int count)
    {
        using Socket socket = Connect("h");
        await using NetworkStream stream = new(socket);
        string rest = await UntilPromptAsync(stream, "");
        foreach (int seed in TestBudget.Seeds(first, count))
        {
            string line = OneLine(TextMutation.Next(TestBudget.RandomOf(seed, 9), FuzzCorpus.Lines));
            rest = await FuzzSeed.RunAsync(seed, $"{nameof(TenThousandRandomLinesAndMessages_LeaveTheDaemonAsItWas)}, line {line}", async () =>
            {
                await stream.WriteAsync(Encoding.UTF8.GetBytes(line + "\n"));
                return await UntilPromptAsync(stream, rest);
            });
        }
    }

    // Each is followed by what brings the reader back, whatever it was, and by a command whose answer is waited for.
    private async Task MessagesAsync(int first, int count)
    {
        using Socket socket = Connect("q");
        await using NetworkStream stream = new(socket);
        MonitorPeer peer = new(stream, stream);
        await peer.SendAsync("{'execute':'qmp_capabilities'}"u8.ToArray());
        foreach (int seed in TestBudget.Seeds(first, count))
        {
            string text = Message(seed);
            _ = await FuzzSeed.RunAsync(seed, $"{nameof(TenThousandRandomLinesAndMessages_LeaveTheDaemonAsItWas)}, message {text}", async () =>
            {
                string id = string.Create(CultureInfo.InvariantCulture, $"seed {seed}");
                await peer.SendAsync(Encoding.UTF8.GetBytes($"{text}\u0001\n{{'execute':'query-name','id':'{id}'}}"));
                while ((await peer.ReceiveAsync() as JsonObject)?.Text("id") != id)
                {
                }

                return true;
            });
        }
    }

    private static string Message(int seed)
    {
        Random random = TestBudget.RandomOf(seed, 10);
        if (random.Next(2) == 0)
        {
            return OneLine(TextMutation.Next(random, FuzzCorpus.Messages));
        }

        CommandDescription[] commands = [.. CommandSchema.Own.Commands.Values.Where(command => !s_barred.Contains(command.Name))];
        CommandDescription command = commands[random.Next(commands.Length)];
        return OneLine(new JsonObject
        {
            ["execute"] = command.Name,
            ["arguments"] = new RandomArguments(random, wrong: 0.05).Value(command.Arguments),
            ["id"] = (long)seed,
        }.ToString());
    }

    // Nothing outside the test's folder is named.
    private static string OneLine(string text)
    {
        text = text.Replace('/', '_').Replace('\n', ' ').Replace('\r', ' ').Replace("..", "__", StringComparison.Ordinal);
        return s_barred.Aggregate(text, (changed, barred) => changed.Replace(barred, "query-name", StringComparison.Ordinal));
    }

    // Takes away what the random commands have added and could not be expected not to.
    private async Task TidyAsync()
    {
        _ = await RunAsync("qmp", this["q"], "cont");
        ToolResult result = (await RunAsync("qmp", this["q"], "query-named-block-nodes")).MustSucceed();
        foreach (JsonValue node in (JsonList)JsonReader.Parse(result.Output))
        {
            _ = await RunAsync("qmp", this["q"], new JsonObject { ["execute"] = "blockdev-del", ["arguments"] = new JsonObject { ["node-name"] = ((JsonObject)node).Text("node-name")! } }.ToString());
        }
    }

    private async Task<int> FilesAsync() =>
        ((JsonList)JsonReader.Parse((await RunAsync("qmp", this["q"], "query-named-block-nodes")).MustSucceed().Output)).Count(node => ((JsonObject)node).Text("drv") == "file");

    private Socket Connect(string name)
    {
        Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(this[name]));
        return socket;
    }

    private static async Task<string> UntilPromptAsync(NetworkStream stream, string text)
    {
        byte[] buffer = new byte[64 << 10];
        while (true)
        {
            int at = text.IndexOf(Prompt, StringComparison.Ordinal);
            if (at >= 0)
            {
                return text[(at + Prompt.Length)..];
            }

            using CancellationTokenSource limit = new(TimeSpan.FromSeconds(30));
            int count = await stream.ReadAsync(buffer, limit.Token);
            text += count > 0 ? Encoding.UTF8.GetString(buffer, 0, count) : throw new EndOfStreamException("the monitor has ended");
        }
    }

    // Sockets of clients that have left may be there for a moment.
    private static async Task<int> DescriptorsAsync(int pid, int wanted)
    {
        int count = Directory.GetFiles($"/proc/{pid}/fd").Length;
        for (int i = 0; i < 60 && count > wanted; i++)
        {
            await Task.Delay(50);
            count = Directory.GetFiles($"/proc/{pid}/fd").Length;
        }

        return count;
    }

    private static long Resident(int pid) =>
        long.Parse(File.ReadLines($"/proc/{pid}/status").First(line => line.StartsWith("VmRSS:", StringComparison.Ordinal))[6..^2], CultureInfo.InvariantCulture) << 10;
}
