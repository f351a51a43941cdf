using BlockMount.Control.Json;
using BlockMount.Control.Schema;
using BlockMount.TestSupport;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Control.Fuzz;

/// <summary>The check of arguments and the parser of options, fed with values that nearly fit: only declared errors.</summary>
[Trait("Suite", "Fuzz")]
public sealed class ArgumentFuzzTests(ITestOutputHelper output)
{
    private static readonly SchemaType[] s_types = [.. CommandSchema.Own.Commands.Values.Select(command => command.Arguments)];

    [Fact]
    public void WhatFitsIsTakenInBothForms()
    {
        int taken = 0;
        foreach (int seed in TestBudget.Seeds(1, 4000))
        {
            Random random = TestBudget.RandomOf(seed, 2);
            SchemaType type = s_types[random.Next(s_types.Length)];
            FuzzSeed.Run(seed, nameof(WhatFitsIsTakenInBothForms), () =>
            {
                JsonObject arguments = (JsonObject)new RandomArguments(random, wrong: 0).Value(type);
                ArgumentCheck.Check(type, arguments);
                // What has been written and read again is the same.
                Assert.Equal(arguments.ToString(), JsonReader.Parse(arguments.ToString()).ToString());
            });
            taken++;
        }

        output.WriteLine(TestBudget.Count(taken, "random arguments taken", promised: 4000));
    }

    [Fact]
    public void WhatNearlyFitsHasDeclaredErrors()
    {
        HashSet<string> kinds = [];
        int refused = 0;
        int taken = 0;
        foreach (int seed in TestBudget.Seeds(10_000, 20_000))
        {
            Random random = TestBudget.RandomOf(seed, 3);
            SchemaType type = s_types[random.Next(s_types.Length)];
            if (new RandomArguments(random, wrong: 0.05).Value(type) is JsonObject arguments)
            {
                FuzzSeed.Run(seed, nameof(WhatNearlyFitsHasDeclaredErrors), () => Count(() => ArgumentCheck.Check(type, arguments)));
            }
        }

        output.WriteLine(TestBudget.Count(refused, "random arguments refused", promised: 2000));
        Assert.True(taken > refused / 100, $"{taken} were taken");
        Assert.True(TestBudget.Scale < 1 || TestBudget.Seed is not null || kinds.Count >= 5, string.Join(", ", kinds));

        void Count(Action check)
        {
            try
            {
                check();
                taken++;
            }
            catch (CommandException error)
            {
                refused++;
                _ = kinds.Add(error.Message.Split('\'')[^1]);
            }
        }
    }

    [Fact]
    public void OptionsHaveDeclaredErrors()
    {
        int refused = 0;
        int taken = 0;
        foreach (int seed in TestBudget.Seeds(50_000, 20_000))
        {
            Random random = TestBudget.RandomOf(seed, 4);
            SchemaType type = s_types[random.Next(s_types.Length)];
            string text = Mutated(string.Join(',', RandomArguments.Options(new RandomArguments(random, wrong: 0.02).Value(type))), random);
            FuzzSeed.Run(seed, nameof(OptionsHaveDeclaredErrors), () =>
            {
                try
                {
                    JsonObject arguments = Keyval.ParseAs(type, text, "driver");
                    // What options stand for is right in the other form, too.
                    ArgumentCheck.Check(type, arguments);
                    taken++;
                }
                catch (CommandException error)
                {
                    Assert.NotEmpty(error.Message);
                    refused++;
                }
            });
        }

        output.WriteLine(TestBudget.Count(taken, "random options taken") + ", " + TestBudget.Count(refused, "refused", promised: 1000));
        Assert.True(taken > TestBudget.Scaled(100) || TestBudget.Seed is not null, $"{taken} were taken");
    }

    private static string Mutated(string text, Random random)
    {
        for (int i = random.Next(3); i > 0 && text.Length > 0; i--)
        {
            int at = random.Next(text.Length);
            text = random.Next(4) switch
            {
                0 => text.Remove(at, 1),
                1 => text.Insert(at, "=,.0ab{}'"[random.Next(9)].ToString()),
                2 => text[..at],
                _ => text,
            };
        }

        return text;
    }
}
