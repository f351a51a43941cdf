using System.Text;
using BlockMount.Control.Json;
using BlockMount.Control.Schema;
using BlockMount.Tests.Control.Qmp;
using BlockMount.TestSupport;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Control.Fuzz;

/// <summary>Whole sessions with messages that are right, nearly right and none, in pieces of any size: every one is answered, in its order.</summary>
[Trait("Suite", "Fuzz")]
public sealed class SessionFuzzTests(ITestOutputHelper output)
{
    private static readonly string[] s_noise = ["@", "}", "]", "'\u0001", "{'a':tru}", "{]", "[1,]", "\\", "%", "{'execute':'x','execute':'y'}", "\"\u0007"];

    [Fact]
    public async Task EveryCommandIsAnsweredOnceAndInItsOrder()
    {
        long answered = 0;
        foreach (int seed in TestBudget.Seeds(1, 60))
        {
            answered += await FuzzSeed.RunAsync(seed, nameof(EveryCommandIsAnsweredOnceAndInItsOrder), () => RunAsync(TestBudget.RandomOf(seed, 5)));
        }

        output.WriteLine(TestBudget.Count(answered, "commands of random sessions answered", promised: 2000));
    }

    private static async Task<int> RunAsync(Random random)
    {
        await using QmpEnd end = await QmpEnd.StartAsync();
        int count = random.Next(20, 80);
        Task sending = SendAsync(end.Peer, Messages(random, count), random);
        for (int expected = 0; expected < count;)
        {
            JsonObject answer = await end.Peer.ReceiveAsync() ?? throw new InvalidOperationException("the session has ended");
            if (answer.Contains("event"))
            {
                continue;
            }

            // An error without an id belongs to noise.
            if (answer.Integer("id") is { } id)
            {
                Assert.Equal(expected++, id);
                Assert.True(answer.Contains("return") ^ answer.Contains("error"), answer.ToString());
            }
            else
            {
                Assert.StartsWith("JSON parse error", answer.Object("error")!.Text("desc"), StringComparison.Ordinal);
            }
        }

        await sending;
        return count;
    }

    private static byte[] Messages(Random random, int count)
    {
        string[] names = [.. CommandSchema.Own.Commands.Keys.Where(name => name is not ("quit" or "qmp_capabilities"))];
        StringBuilder text = new();
        for (int id = 0; id < count; id++)
        {
            string name = names[random.Next(names.Length)];
            JsonValue arguments = new RandomArguments(random, wrong: 0.05).Value(CommandSchema.Own.Commands[name].Arguments);
            JsonObject message = new() { ["execute"] = name };
            if (arguments is JsonObject)
            {
                message["arguments"] = arguments;
            }

            message["id"] = (long)id;
            _ = text.Append(message.ToString());
            if (random.Next(4) == 0)
            {
                // The line end brings the reader back, whatever the noise was.
                _ = text.Append(s_noise[random.Next(s_noise.Length)]).Append("\u0001\n");
            }
        }

        return Encoding.UTF8.GetBytes(text.ToString());
    }

    private static async Task SendAsync(QmpPeer peer, byte[] bytes, Random random)
    {
        for (int at = 0; at < bytes.Length;)
        {
            int length = Math.Min(random.Next(1, random.Next(2) == 0 ? 8 : 4000), bytes.Length - at);
            await peer.SendAsync(bytes.AsMemory(at, length));
            at += length;
        }
    }
}
