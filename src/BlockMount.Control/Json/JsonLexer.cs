namespace BlockMount.Control.Json;

/// <summary>
/// Cuts a stream of bytes into tokens, wherever the stream is split. Strings may stand in single quotes (an extension that QEMU has). After bytes that
/// belong to no token it goes on at the next structural character, control character other than a tab, or byte above 0xFD. One thread.
/// </summary>
internal sealed class JsonLexer
{
    /// <summary>Longest token, in bytes.</summary>
    public const int TokenBytesMax = 64 << 20;

    // Memory of a token that was longer than this is not kept for the next one.
    private const int KeptBytes = 64 << 10;

    private readonly Action<JsonToken> _emit;
    private List<byte> _token = [];
    private State _state;

    public JsonLexer(Action<JsonToken> emit) => _emit = emit;

    private enum State
    {
        Start,
        DoubleQuoted,
        DoubleQuotedEscape,
        SingleQuoted,
        SingleQuotedEscape,
        Sign,
        Zero,
        Digits,
        Point,
        Fraction,
        Exponent,
        ExponentSign,
        ExponentDigits,
        Keyword,
        Recovery,
    }

    /// <summary>Takes the next bytes.</summary>
    public void Feed(ReadOnlySpan<byte> bytes)
    {
        foreach (byte c in bytes)
        {
            // A byte that ends a number or keyword, or recovery, is looked at again.
            while (!Take(c))
            {
            }
        }
    }

    // False: the byte ended what went before, and comes again.
    private bool Take(byte c)
    {
        switch (_state)
        {
            case State.Start:
                return TakeFirst(c);
            case State.DoubleQuoted:
                return TakeQuoted(c, '"', State.DoubleQuotedEscape);
            case State.SingleQuoted:
                return TakeQuoted(c, '\'', State.SingleQuotedEscape);
            case State.DoubleQuotedEscape:
                return IsText(c) ? Go(c, State.DoubleQuoted) : Fail(c);
            case State.SingleQuotedEscape:
                return IsText(c) ? Go(c, State.SingleQuoted) : Fail(c);
            case State.Keyword:
                return c is >= (byte)'a' and <= (byte)'z' ? Go(c, State.Keyword) : End(c, JsonTokenKind.Keyword);
            case State.Recovery:
                return TakeInRecovery(c);
            default:
                return TakeInNumber(c);
        }
    }

    private bool TakeFirst(byte c)
    {
        switch ((char)c)
        {
            case ' ' or '\t' or '\r' or '\n':
                return true;
            case '{':
                return Emit(c, JsonTokenKind.LeftBrace);
            case '}':
                return Emit(c, JsonTokenKind.RightBrace);
            case '[':
                return Emit(c, JsonTokenKind.LeftBracket);
            case ']':
                return Emit(c, JsonTokenKind.RightBracket);
            case ':':
                return Emit(c, JsonTokenKind.Colon);
            case ',':
                return Emit(c, JsonTokenKind.Comma);
            case '"':
                return Go(c, State.DoubleQuoted);
            case '\'':
                return Go(c, State.SingleQuoted);
            case '-':
                return Go(c, State.Sign);
            case '0':
                return Go(c, State.Zero);
            case >= '1' and <= '9':
                return Go(c, State.Digits);
            case >= 'a' and <= 'z':
                return Go(c, State.Keyword);
            default:
                return Fail(c);
        }
    }

    private bool TakeQuoted(byte c, char quote, State escape)
    {
        if (c == quote)
        {
            return Emit(c, JsonTokenKind.String);
        }

        return !IsText(c) ? Fail(c) : Go(c, c == '\\' ? escape : _state);
    }

    private bool TakeInNumber(byte c)
    {
        bool isDigit = c is >= (byte)'0' and <= (byte)'9';
        bool isExponent = c is (byte)'e' or (byte)'E';
        switch (_state)
        {
            case State.Sign:
                return isDigit ? Go(c, c == '0' ? State.Zero : State.Digits) : Fail(c);
            case State.Zero when isDigit:
                return Fail(c);
            case State.Zero or State.Digits:
                return isDigit ? Go(c, State.Digits)
                    // QEMU takes no exponent right behind a zero.
                    : isExponent && _state == State.Digits ? Go(c, State.Exponent)
                    : c == '.' ? Go(c, State.Point) : End(c, JsonTokenKind.Integer);
            case State.Point:
                return isDigit ? Go(c, State.Fraction) : Fail(c);
            case State.Fraction:
                return isDigit ? Go(c, State.Fraction) : isExponent ? Go(c, State.Exponent) : End(c, JsonTokenKind.Number);
            case State.Exponent when c is (byte)'+' or (byte)'-':
                return Go(c, State.ExponentSign);
            case State.Exponent or State.ExponentSign:
                return isDigit ? Go(c, State.ExponentDigits) : Fail(c);
            default:
                return isDigit ? Go(c, State.ExponentDigits) : End(c, JsonTokenKind.Number);
        }
    }

    private bool TakeInRecovery(byte c)
    {
        // A tab is part of the bad input, and other control characters are not.
        if (c is (byte)'\t' or (>= 0x20 and <= 0xFD) && !IsStructural(c))
        {
            return true;
        }

        // What ends the bad input is the first of what follows.
        _state = State.Start;
        return false;
    }

    private static bool IsText(byte c) => c is >= 0x20 and <= 0xFD;

    private static bool IsStructural(byte c) => "{}[]:,".Contains((char)c);

    private bool Go(byte c, State next)
    {
        _token.Add(c);
        _state = next;
        if (_token.Count > TokenBytesMax)
        {
            Finish(JsonTokenKind.Error, State.Recovery);
        }

        return true;
    }

    private bool Emit(byte c, JsonTokenKind kind)
    {
        _token.Add(c);
        Finish(kind, State.Start);
        return true;
    }

    private bool End(byte c, JsonTokenKind kind)
    {
        Finish(kind, State.Start);
        return false;
    }

    private bool Fail(byte c)
    {
        _token.Add(c);
        Finish(JsonTokenKind.Error, State.Recovery);
        return true;
    }

    private void Finish(JsonTokenKind kind, State next)
    {
        byte[] bytes = [.. _token];
        if (bytes.Length > KeptBytes)
        {
            _token = [];
        }

        _token.Clear();
        _state = next;
        _emit(new JsonToken(kind, bytes));
    }
}
