using System.Text;
using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Control;
using BlockMount.Control.Client;
using BlockMount.Control.Hmp;
using BlockMount.Control.Json;
using BlockMount.Control.Schema;
using BlockMount.Formats.Raw;
using BlockMount.Tests.Control.Qmp;
using BlockMount.TestSupport;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Control.Fuzz;

/// <summary>
/// Everything that an operator or a client types is parsed or refused with a declared error, never with another one: first the corpus as it is, then texts made from it with the seeds of
/// the run (<c>make soak</c>: fresh ones, for minutes).
/// </summary>
[Trait("Suite", "Fuzz")]
public sealed class ParserFuzzTests(ITestOutputHelper output)
{
    private const int FirstSeed = 100_000;
    private const int Seeds = 20_000;

    private static readonly SchemaType[] s_types = [.. CommandSchema.Own.Commands.Values.Select(command => command.Arguments)];

    [Fact]
    public void Json_AnyText_IsValuesAndErrorsWhereverItIsCut()
    {
        Run("texts read as JSON", FuzzCorpus.Messages, nameof(Json_AnyText_IsValuesAndErrorsWhereverItIsCut), (text, random) =>
        {
            byte[] bytes = [.. Encoding.UTF8.GetBytes(text), (byte)'\n'];
            List<string> whole = Read(bytes, _ => bytes.Length);
            Assert.Equal(whole, Read(bytes, _ => random.Next(1, 8)));
            try
            {
                string once = JsonReader.Parse(text).ToString();
                string twice = JsonReader.Parse(once).ToString();
                Assert.Equal(twice, JsonReader.Parse(twice).ToString());
                if (!once.Contains("-0", StringComparison.Ordinal))
                {
                    // A fraction that is minus zero is written as -0, which is the whole number 0: so does QEMU.
                    Assert.Equal(once, twice);
                }
            }
            catch (FormatException)
            {
                // Declared; also for what is written of an infinite number.
            }
        });
    }

    [Fact]
    public void Options_AnyText_HaveDeclaredErrors() =>
        Run("texts read as options", FuzzCorpus.Options, nameof(Options_AnyText_HaveDeclaredErrors), (text, random) =>
        {
            string? implied = random.Next(2) == 0 ? "driver" : null;
            Declared<CommandException>(() => Keyval.Parse(text, implied));
            SchemaType type = s_types[random.Next(s_types.Length)];
            Declared<CommandException>(() => Keyval.ParseAs(type, text, implied));
        });

    [Fact]
    public void ShellLines_AnyText_HaveDeclaredErrors() =>
        Run("texts read as lines of qmp-shell", FuzzCorpus.All, nameof(ShellLines_AnyText_HaveDeclaredErrors), (text, _) => Declared<FormatException>(() => ShellLine.Parse(text)));

    [Fact]
    public void LineWords_AnyText_HaveDeclaredErrors() =>
        Run("texts read as words of the human monitor", FuzzCorpus.Lines, nameof(LineWords_AnyText_HaveDeclaredErrors), (text, random) =>
        {
            HmpParameter[] parameters = [.. Enumerable.Range(0, random.Next(5)).Select(i => new HmpParameter(
                i == 0 ? "n" : $"p{i}", i == 0 ? HmpParameterKind.Flag : (HmpParameterKind)random.Next(Enum.GetValues<HmpParameterKind>().Length), random.Next(2) == 0))];
            parameters = [.. parameters.Select((parameter, i) => i > 0 && parameter.Kind == HmpParameterKind.Flag ? parameter with { Kind = HmpParameterKind.Text } : parameter)];
            Declared<HmpSyntaxException>(() => HmpSyntax.Parse("cmd", parameters, new HmpLexer(text)));
        });

    [Fact]
    public async Task MonitorLines_AnyText_AreAnsweredOrHaveDeclaredErrors()
    {
        await using BlockDevice device = new("drive0", new FormatNode("node0", "disk.raw", new RawDriver(new MemoryFile()), backing: null), readOnly: false);
        ControlMonitor monitor = new(new FakeHost(device));
        Run("lines carried out by the human monitor", FuzzCorpus.Lines, nameof(MonitorLines_AnyText_AreAnsweredOrHaveDeclaredErrors), (text, random) =>
        {
            // That one would listen, on any port.
            if (text.Contains("nbd_server_start", StringComparison.Ordinal))
            {
                return;
            }

            _ = monitor.CompleteLine(text[..random.Next(text.Length + 1)]);
            _ = ExecuteAsync(monitor, "human-monitor-command", new JsonObject { ["command-line"] = text }).GetAwaiter().GetResult();
        });
    }

    // What comes from below, unforeseen, is an error of another kind within the one that the client gets.
    private static async Task<bool> ExecuteAsync(ControlMonitor monitor, string name, JsonObject arguments)
    {
        try
        {
            _ = await monitor.Commands.ExecuteAsync(name, arguments).AsTask().WaitAsync(TimeSpan.FromSeconds(30));
            return true;
        }
        catch (CommandException error) when (error.InnerException is null or CommandException or BlockMountException)
        {
            return false;
        }
    }

    private void Run(string what, string[] corpus, string test, Action<string, Random> parse)
    {
        int count = 0;
        foreach (string text in FuzzCorpus.All)
        {
            Feed(0, text);
        }

        foreach (int seed in TestBudget.Seeds(FirstSeed, Seeds))
        {
            Feed(seed, TextMutation.Next(TestBudget.RandomOf(seed, 6), TestBudget.RandomOf(seed, 7).Next(10) == 0 ? FuzzCorpus.All : corpus));
        }

        output.WriteLine(TestBudget.Count(count, what, promised: Seeds));

        // Seed 0 is the corpus.
        void Feed(int seed, string text)
        {
            FuzzSeed.Run(seed, $"{test}, fed with {(text.Length > 2000 ? text[..2000] + "..." : text)}", () => parse(text, TestBudget.RandomOf(seed, 8)));
            count++;
        }
    }

    private static List<string> Read(byte[] bytes, Func<int, int> length)
    {
        List<string> read = [];
        JsonReader reader = new((value, error) => read.Add(error ?? value!.ToString()!));
        for (int at = 0; at < bytes.Length;)
        {
            int count = Math.Min(length(at), bytes.Length - at);
            reader.Feed(bytes.AsSpan(at, count));
            at += count;
        }

        return read;
    }

    private static void Declared<T>(Func<object> parse)
        where T : Exception
    {
        try
        {
            _ = parse();
        }
        catch (T error)
        {
            Assert.NotEmpty(error.Message);
        }
    }
}
