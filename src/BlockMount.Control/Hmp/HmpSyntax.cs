namespace BlockMount.Control.Hmp;

/// <summary>Reads what follows a command's name into its parameters.</summary>
internal static class HmpSyntax
{
    /// <summary>The values of <paramref name="parameters"/>, in their order on the line; flags that are listed one after the other stand there in any order.</summary>
    /// <param name="command">Name of the command, for messages.</param>
    /// <exception cref="HmpSyntaxException">Too little, too much, or not of the parameter's kind.</exception>
    internal static HmpArguments Parse(string command, IReadOnlyList<HmpParameter> parameters, HmpLexer line)
    {
        HmpArguments arguments = new();
        for (int i = 0; i < parameters.Count; i++)
        {
            if (parameters[i].Kind == HmpParameterKind.Flag)
            {
                i = ReadFlags(command, parameters, i, line, arguments);
            }
            else
            {
                ReadOne(command, parameters[i], line, arguments);
            }
        }

        return line.AtEnd
            ? arguments
            : throw new HmpSyntaxException($"{command}: extraneous characters at the end of line", suggestsHelp: true);
    }

    // Returns the place of the last of these flags.
    private static int ReadFlags(string command, IReadOnlyList<HmpParameter> parameters, int first, HmpLexer line, HmpArguments arguments)
    {
        string letters = string.Concat(parameters.Skip(first).TakeWhile(parameter => parameter.Kind == HmpParameterKind.Flag).Select(parameter => parameter.Name));
        while (line.ReadFlag(command, letters) is var letter and not '\0')
        {
            arguments.Set(letter.ToString(), true);
        }

        return first + letters.Length - 1;
    }

    private static void ReadOne(string command, HmpParameter parameter, HmpLexer line, HmpArguments arguments)
    {
        if (!line.AtEnd)
        {
            arguments.Set(parameter.Name, Read(parameter, line));
        }
        else if (!parameter.Optional)
        {
            throw parameter.Kind is HmpParameterKind.Size
                ? new HmpSyntaxException("invalid size", suggestsHelp: true)
                : new HmpSyntaxException($"{command}: {Expected(parameter.Kind)} expected", suggestsHelp: true);
        }
    }

    private static object Read(HmpParameter parameter, HmpLexer line)
    {
        if (parameter.Kind == HmpParameterKind.Rest)
        {
            return line.ReadRest();
        }

        string word = line.ReadWord();
        switch (parameter.Kind)
        {
            case HmpParameterKind.Size:
                return HmpNumbers.TryParseSize(word, out long bytes) ? bytes : throw new HmpSyntaxException("invalid size", suggestsHelp: true);
            case HmpParameterKind.Integer:
                return HmpNumbers.TryParseInteger(word, out long value) ? value : throw new HmpSyntaxException("invalid number", suggestsHelp: true);
            default:
                return word;
        }
    }

    private static string Expected(HmpParameterKind kind) => kind switch
    {
        HmpParameterKind.Device => "block device name",
        HmpParameterKind.FileName => "filename",
        HmpParameterKind.Integer => "integer",
        _ => "string",
    };
}
