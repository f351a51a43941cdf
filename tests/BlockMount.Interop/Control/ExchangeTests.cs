using System.Diagnostics;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using BlockMount.Interop.Cli;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Control;

/// <summary>
/// The same messages to qemu-storage-daemon and to the release binary: equal answers, or a line in docs/qmp-differences.md that gives the reason.
/// </summary>
public sealed class ExchangeTests : CliFixture
{
    [RequiresReleaseFact("qemu-img", "qemu-storage-daemon")]
    public async Task TheAnswersAreThoseOfQemuOrListed()
    {
        string[] messages = await MessagesAsync("exchanges.txt");
        Assert.InRange(messages.Length, 150, int.MaxValue);
        string[] theirs = await DaemonAsync("theirs", ["qemu-storage-daemon"], messages);
        string[] ours = await OursAsync(messages);
        string wrong = await ListedDifferences.CheckAsync(messages, theirs, ours);
        Assert.True(wrong.Length == 0, wrong);
    }

    [RequiresReleaseFact("qemu-img", "qemu-storage-daemon")]
    public async Task TheGraphChangesAsThatOfQemuOrListed()
    {
        string[] messages = await MessagesAsync("graph-exchanges.txt");
        Assert.InRange(messages.Length, 140, int.MaxValue);
        string[] theirs = await DaemonAsync("theirs", ["qemu-storage-daemon"], messages);
        string[] ours = await DaemonAsync("ours", [ReleaseBinary.FullPath, "daemon"], messages);
        string wrong = await ListedDifferences.CheckAsync(messages, theirs, ours);
        Assert.True(wrong.Length == 0, wrong);
    }

    private static async Task<string[]> MessagesAsync(string name) =>
        [.. (await File.ReadAllLinesAsync(Beside(name))).Where(line => line.Length > 0 && !line.StartsWith('#'))];

    // Both take the same command line. The disk is served from a folder of its own.
    private async Task<string[]> DaemonAsync(string name, string[] program, string[] messages)
    {
        string folder = this[$"{name}-folder"];
        _ = Directory.CreateDirectory(folder);
        string disk = this[name];
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", disk, "2M");
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", $"{folder}/a.qcow2", "1M");
        await QemuImg.RunAsync("create", "-q", "-f", "raw", $"{folder}/b.raw", "1M");
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", $"{folder}/c.qcow2");
        await QemuImg.RunAsync("create", "-q", "-u", "-f", "qcow2", "-b", "missing", "-F", "qcow2", $"{folder}/d.qcow2", "1M");
        using Process process = Process.Start(new ProcessStartInfo(program[0], [
            .. program[1..], "--blockdev", $"driver=qcow2,node-name=drive0,file.driver=file,file.filename={disk}", "--chardev", "stdio,id=c", "--monitor", "chardev=c"])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            WorkingDirectory = folder,
        })!;
        try
        {
            using Peer peer = new(process.StandardInput.BaseStream, process.StandardOutput.BaseStream, folder);
            return await peer.ExchangeAsync(messages);
        }
        finally
        {
            process.Kill();
            await process.WaitForExitAsync();
        }
    }

    private async Task<string[]> OursAsync(string[] messages)
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["ours"], "2M");
        (await RunAsync(this["ours"], this["m"], "--qmp", this["q"])).MustSucceed();
        using Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await socket.ConnectAsync(new UnixDomainSocketEndPoint(this["q"]));
        await using NetworkStream stream = new(socket);
        _ = Directory.CreateDirectory(this["empty2"]);
        using Peer peer = new(stream, stream, this["empty2"]);
        return await peer.ExchangeAsync(messages);
    }

    private static string Beside(string name, [System.Runtime.CompilerServices.CallerFilePath] string file = "") =>
        Path.GetFullPath(name, Path.GetDirectoryName(file)!);

    /// <summary>A QMP monitor at the other end of two streams, which are the caller's.</summary>
    /// <param name="folder">Stands for FOLDER in messages.</param>
    private sealed class Peer(Stream input, Stream output, string folder) : IDisposable
    {
        private const string Mark = "--next";
        private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(20);

        private readonly StreamReader _reader = new(output, Encoding.UTF8);

        /// <summary>What came back for each message, in one line.</summary>
        public async Task<string[]> ExchangeAsync(string[] messages)
        {
            _ = await AskAsync("""{"execute":"qmp_capabilities"}""");
            List<string> answers = [];
            foreach (string message in messages)
            {
                answers.Add(await AskAsync(message));
            }

            return [.. answers];
        }

        public void Dispose() => _reader.Dispose();

        // An open bracket or quote would take what follows for its own; a token that cannot be ends it, with the same errors on both sides.
        private async Task<string> AskAsync(string message)
        {
            message = message.Replace("FOLDER", folder, StringComparison.Ordinal);
            await input.WriteAsync(Encoding.UTF8.GetBytes($"{message}\n\u0001\n{{\"execute\":\"query-version\",\"id\":\"{Mark}\"}}\n"));
            await input.FlushAsync();
            List<string> answers = [];
            while (true)
            {
                string line = await _reader.ReadLineAsync().WaitAsync(s_limit) ?? throw new InvalidOperationException("the monitor has ended");
                if (line.Contains(Mark, StringComparison.Ordinal))
                {
                    return string.Join(' ', answers);
                }

                // QEMU's drivers print what they make on the monitor's own stream.
                if (line.Length > 0 && !line.Contains("\"QMP\"", StringComparison.Ordinal) && !line.StartsWith("Formatting ", StringComparison.Ordinal))
                {
                    answers.Add(Normalised(line.Replace(folder, "FOLDER", StringComparison.Ordinal)));
                }
            }
        }

        // Members in the order of their names; no moments, and no text that names a version.
        private static string Normalised(string line)
        {
            JsonNode? node = TryParse(line);
            return node is null ? line : Ordered(node)!.ToJsonString();
        }

        private static JsonNode? TryParse(string line)
        {
            try
            {
                return JsonNode.Parse(line);
            }
            catch (JsonException)
            {
                // Infinity is no JSON, and both print it.
                return null;
            }
        }

        private static JsonNode? Ordered(JsonNode? node) => node switch
        {
            JsonObject members => new JsonObject(members.OrderBy(member => member.Key, StringComparer.Ordinal)
                .Select(member => KeyValuePair.Create(member.Key, IsMoment(member.Key) ? JsonValue.Create("-") : Ordered(member.Value)))),
            JsonArray items => new JsonArray([.. items.Select(Ordered)]),
            _ => node?.DeepClone(),
        };

        private static bool IsMoment(string name) => name is "timestamp" or "date-sec" or "date-nsec" or "package" or "micro" or "vm-clock-sec" or "vm-clock-nsec" or "icount";
    }
}
