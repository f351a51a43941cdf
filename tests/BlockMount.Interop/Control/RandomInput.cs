using BlockMount.TestSupport;

namespace BlockMount.Interop.Control;

/// <summary>Random input for monitors: messages that nearly are some, cut, doubled, mixed with pieces of JSON and with noise.</summary>
internal static class RandomInput
{
    private static readonly string[] s_messages =
    [
        "{'execute':'query-version','id':1}", "{\"execute\":\"nope\",\"arguments\":{\"a\":[1,2.5,{\"b\":null}]},\"id\":\"x\"}", "{'execute':'block_resize','arguments':{'size':'x'}}",
        "{'execute':'blockdev-add','arguments':{'driver':'qcow2','file':{'driver':'file'}},'id':[true,false]}", "[1,[2,[3,'\\u00e9\\ud83d\\ude00']]]",
    ];

    private static readonly string[] s_pieces =
    [
        "{", "}", "[", "]", ":", ",", "\"", "'", "\\", "\\u00", "\\ud83d", "\\n", "true", "false", "null", "nul", "-", "0", "1", "01", "1.5", "1e5", "e", ".", "+", "%d", "%",
        "'a'", "\"b\"", " ", "\n", "\t", "\u0001", "\u007f", "ä", "😀", "@", "/*", "18446744073709551615", "-9223372036854775808", "99999999999999999999", "1e400",
    ];

    /// <summary>The exchange of a seed.</summary>
    public static Exchange Of(int seed)
    {
        Random random = TestBudget.RandomOf(seed, 1);
        return new Exchange($"seed {seed}", negotiate: true, [.. Enumerable.Range(0, random.Next(5, 40)).Select(_ => Piece(random))]);
    }

    private static string Piece(Random random)
    {
        string message = s_messages[random.Next(s_messages.Length)];
        int at = random.Next(message.Length);
        return random.Next(5) switch
        {
            0 => message,
            1 => message[..at],
            2 => message[..at] + s_pieces[random.Next(s_pieces.Length)] + message[at..],
            3 => message[at..],
            _ => string.Concat(Enumerable.Range(0, random.Next(1, 8)).Select(_ => s_pieces[random.Next(s_pieces.Length)])),
        };
    }
}
