using System.Text;
using BlockMount.Control.Json;
using BlockMount.Control.Qmp;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Hmp;

/// <summary>One client of the human monitor on a stream: a banner, a prompt, and for each line its result.</summary>
public static class HmpSession
{
    /// <summary>What scripts wait for.</summary>
    public const string Prompt = "(qemu) ";

    private const int LineBytesMax = 1 << 20;

    /// <summary>Serves until the client is gone or <paramref name="cancel"/>.</summary>
    /// <param name="stream">To and from the client; still the caller's.</param>
    public static async Task RunAsync(Stream stream, CommandTable commands, string version, CancellationToken cancel)
    {
        try
        {
            await SendAsync(stream, $"{Banner(version)}\n{Prompt}", cancel);
            byte[] buffer = new byte[4096];
            List<byte> line = [];
            while (await stream.ReadAsync(buffer, cancel) is var count and > 0 && line.Count < LineBytesMax)
            {
                foreach (byte c in buffer.AsMemory(0, count).ToArray())
                {
                    if (c != '\n')
                    {
                        line.Add(c);
                        continue;
                    }

                    string result = await RunLineAsync(commands, Encoding.UTF8.GetString([.. line]).TrimEnd('\r'));
                    line.Clear();
                    await SendAsync(stream, result + Prompt, cancel);
                }
            }
        }
        catch (Exception error) when (error is IOException or ObjectDisposedException or OperationCanceledException)
        {
            // The client is gone, or we are to end.
        }
    }

    /// <summary>The first line of a session.</summary>
    public static string Banner(string version) => $"BlockMount {version} monitor - type 'help' for more information";

    /// <summary>Carries one line out, in its turn; lines of the result end with \n.</summary>
    public static async ValueTask<string> RunLineAsync(CommandTable commands, string line)
    {
        try
        {
            JsonValue result = await commands.ExecuteAsync("human-monitor-command", new JsonObject { ["command-line"] = line });
            return ((JsonString)result).Value.Replace("\r\n", "\n", StringComparison.Ordinal);
        }
        catch (CommandException error)
        {
            // A line that fails in an unforeseen way must not end the session, or the process.
            return $"Error: {error.Message}\n";
        }
    }

    private static async ValueTask SendAsync(Stream stream, string text, CancellationToken cancel)
    {
        await stream.WriteAsync(Encoding.UTF8.GetBytes(text.Replace("\n", "\r\n", StringComparison.Ordinal)), cancel);
        await stream.FlushAsync(cancel);
    }
}
