using BlockMount.Control.Json;
using BlockMount.Control.Schema;

namespace BlockMount.Tests.Control.Fuzz;

/// <summary>Makes random values of described types: right ones, and now and then a wrong one. One thread.</summary>
internal sealed class RandomArguments
{
    private const int DepthMax = 6;

    private readonly Random _random;
    private readonly double _wrong;
    private readonly string[] _names;

    /// <param name="wrong">How often a value is replaced by one of another kind, a member is left out, or one is added: 0 to 1.</param>
    /// <param name="names">What half of all strings are, as the names of nodes that exist.</param>
    public RandomArguments(Random random, double wrong, params string[] names)
    {
        _names = names;
        _random = random;
        _wrong = wrong;
    }

    /// <summary>A value of the type, or nearly.</summary>
    public JsonValue Value(SchemaType type, int depth = 0)
    {
        if (Errs())
        {
            return Any(depth);
        }

        return type switch
        {
            BuiltinType builtin => Scalar(builtin),
            EnumType words => words.Values[_random.Next(words.Values.Count)],
            ListType list => new JsonList(Enumerable.Range(0, depth < DepthMax ? _random.Next(3) : 0).Select(_ => Value(list.Element, depth + 1))),
            AlternateType alternate => Value(Choice(alternate, depth), depth + 1),
            _ => Object(type, depth),
        };
    }

    /// <summary>The members of an object as key=value options, with dotted keys.</summary>
    public static IEnumerable<string> Options(JsonValue value, string path = "") => value switch
    {
        JsonObject members => members.Members.SelectMany(member => Options(member.Value, path.Length == 0 ? member.Key : $"{path}.{member.Key}")),
        JsonList items => items.SelectMany((item, index) => Options(item, $"{path}.{index}")),
        JsonString text => [$"{path}={text.Value.Replace(",", ",,", StringComparison.Ordinal)}"],
        JsonBool flag => [$"{path}={(flag.Value ? "on" : "off")}"],
        _ => [$"{path}={value}"],
    };

    // Deep down, what is not an object, so that there is an end.
    private SchemaType Choice(AlternateType alternate, int depth) => depth < DepthMax
        ? alternate.Choices[_random.Next(alternate.Choices.Count)]
        : alternate.Choices.First(choice => choice is not UnionType);

    private JsonObject Object(SchemaType type, int depth)
    {
        JsonObject result = new();
        if (type is UnionType union)
        {
            Add(result, union.Common, depth);
            if (result.Text(union.Discriminator) is { } kind && union.Variants.TryGetValue(kind, out StructType? variant))
            {
                Add(result, variant.Members, depth);
            }
        }
        else
        {
            Add(result, ((StructType)type).Members, depth);
        }

        if (Errs())
        {
            result["x" + _random.Next(10)] = Any(depth);
        }

        return result;
    }

    private void Add(JsonObject result, IReadOnlyList<SchemaMember> members, int depth)
    {
        foreach (SchemaMember member in members)
        {
            if (member.Optional ? _random.Next(3) == 0 && depth < DepthMax : !Errs())
            {
                result[member.Name] = Value(member.Type, depth + 1);
            }
        }
    }

    private JsonValue Scalar(BuiltinType type) => type.Kind switch
    {
        BuiltinKind.Text => Text(),
        BuiltinKind.Boolean => _random.Next(2) == 0,
        BuiltinKind.Null => JsonValue.Null,
        BuiltinKind.Number => new JsonNumber(_random.NextDouble()),
        BuiltinKind.Integer => _random.NextInt64(type.Minimum, type.Maximum),
        BuiltinKind.Unsigned or BuiltinKind.Size => _random.NextInt64(),
        _ => Any(DepthMax),
    };

    private JsonValue Any(int depth) => _random.Next(depth < DepthMax ? 9 : 7) switch
    {
        0 => JsonValue.Null,
        1 => _random.Next(2) == 0,
        2 => _random.NextInt64(long.MinValue, long.MaxValue),
        3 => new JsonInteger(ulong.MaxValue),
        4 => new JsonNumber(1.5),
        5 => "",
        6 => Text(),
        7 => new JsonList(Enumerable.Range(0, _random.Next(3)).Select(_ => Any(depth + 1))),
        _ => new JsonObject { ["a"] = Any(depth + 1), ["driver"] = Any(depth + 1) },
    };

    private string Text() => _names.Length > 0 && _random.Next(2) == 0 ? _names[_random.Next(_names.Length)] : new([.. Enumerable.Range(0, _random.Next(8)).Select(_ => "aZ0-_.,=é\u0001\"'\\ "[_random.Next(14)])]);

    private bool Errs() => _random.NextDouble() < _wrong;
}
