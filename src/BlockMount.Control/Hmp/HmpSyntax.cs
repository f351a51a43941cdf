namespace BlockMount.Control.Hmp;

/// <summary>Reads what follows a command's name into its parameters.</summary>
internal static class HmpSyntax
{
    /// <summary>The values of <paramref name="parameters"/>, in their order on the line; flags stand where they are listed.</summary>
    /// <param name="command">Name of the command, for messages.</param>
    /// <exception cref="HmpSyntaxException">Too little, too much, or not of the parameter's kind.</exception>
    internal static HmpArguments Parse(string command, IReadOnlyList<HmpParameter> parameters, HmpLexer line)
    {
        HmpArguments arguments = new();
        ReadFlags(command, parameters, line, arguments);
        foreach (HmpParameter parameter in parameters)
        {
            if (parameter.Kind == HmpParameterKind.Flag)
            {
                continue;
            }

            if (!line.AtEnd)
            {
                arguments.Set(parameter.Name, Read(command, parameter, line));
            }
            else if (!parameter.Optional)
            {
                throw new HmpSyntaxException($"{command}: {Expected(parameter.Kind)} expected", suggestsHelp: true);
            }
        }

        return line.AtEnd
            ? arguments
            : throw new HmpSyntaxException($"{command}: extraneous characters at the end of line", suggestsHelp: true);
    }

    private static void ReadFlags(string command, IReadOnlyList<HmpParameter> parameters, HmpLexer line, HmpArguments arguments)
    {
        string letters = string.Concat(parameters.Where(parameter => parameter.Kind == HmpParameterKind.Flag).Select(parameter => parameter.Name));
        while (letters.Length > 0 && line.ReadFlag(command, letters) is var letter and not '\0')
        {
            arguments.Set(letter.ToString(), true);
        }
    }

    private static object Read(string command, HmpParameter parameter, HmpLexer line)
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
        HmpParameterKind.Size => "size",
        HmpParameterKind.Integer => "integer",
        _ => "string",
    };
}
