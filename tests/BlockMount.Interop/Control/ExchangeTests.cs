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
        string[] messages = [.. (await File.ReadAllLinesAsync(Beside("exchanges.txt"))).Where(line => line.Length > 0 && !line.StartsWith('#'))];
        Assert.InRange(messages.Length, 150, int.MaxValue);
        string[] theirs = await QemuAsync(messages);
        string[] ours = await OursAsync(messages);
        string[] listed = [.. (await File.ReadAllLinesAsync(Beside("../../../docs/qmp-differences.md"))).Where(line => line.StartsWith("| `", StringComparison.Ordinal))];
        StringBuilder wrong = new();
        for (int i = 0; i < messages.Length; i++)
        {
            bool isListed = listed.Any(line => line.StartsWith($"| `{messages[i].Replace("|", "\\|", StringComparison.Ordinal)}` |", StringComparison.Ordinal));
            if (ours[i] != theirs[i] && !isListed)
            {
                _ = wrong.Append($"{messages[i]}\n  QEMU: {theirs[i]}\n  ours: {ours[i]}\n");
            }
            else if (ours[i] == theirs[i] && isListed)
            {
                _ = wrong.Append($"{messages[i]}\n  is listed as different, and is equal: {ours[i]}\n");
            }
        }

        Assert.True(wrong.Length == 0, wrong.ToString());
    }

    private async Task<string[]> QemuAsync(string[] messages)
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["theirs"], "2M");
        _ = Directory.CreateDirectory(this["empty"]);
        using Process process = Process.Start(new ProcessStartInfo("qemu-storage-daemon", [
            "--blockdev", $"driver=qcow2,node-name=drive0,file.driver=file,file.filename={this["theirs"]}", "--chardev", "stdio,id=c", "--monitor", "chardev=c"])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            WorkingDirectory = this["empty"],
        })!;
        try
        {
            using Peer peer = new(process.StandardInput.BaseStream, process.StandardOutput.BaseStream, this["empty"]);
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

                if (line.Length > 0 && !line.Contains("\"QMP\"", StringComparison.Ordinal))
                {
                    answers.Add(Normalised(line));
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
