using BlockMount.Base;
using BlockMount.Control.Json;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Commands;

/// <summary>Makes secrets: bytes that other objects and nodes name. Encrypted ones (keyid) are refused: nothing here uses them yet.</summary>
internal static class SecretObject
{
    /// <exception cref="CommandException">There is no secret, or two; or it cannot be read.</exception>
    internal static StoredObject Make(string id, JsonObject arguments)
    {
        string? data = arguments.Text("data");
        string? file = arguments.Text("file");
        if (data is not null && file is not null)
        {
            throw new CommandException("'file' and 'data' are mutually exclusive");
        }

        if (arguments.Contains("keyid") || arguments.Contains("iv"))
        {
            throw new CommandException("Secrets that are encrypted with another one ('keyid', 'iv') are not supported");
        }

        string format = arguments.Text("format") ?? "raw";
        if (file is not null)
        {
            // Looked at only for being there: what is in it is read when somebody uses it.
            CheckReadable(file);
        }
        else if (data is null)
        {
            throw new CommandException("Either 'file' or 'data' must be provided");
        }

        if (format == "base64" && data?.All(c => char.IsAsciiLetterOrDigit(c) || c is '+' or '/' or '=' or '\n') == false)
        {
            throw new CommandException("Base64 data contains invalid characters");
        }

        return new StoredObject(id, "secret",
        [
            new ObjectProperty("iv", "string", static () => ""),
            new ObjectProperty("keyid", "string", static () => ""),
            new ObjectProperty("loaded", "bool", static () => true),
            new ObjectProperty("format", "QCryptoSecretFormat", () => format),
            new ObjectProperty("file", "string", () => file ?? ""),
            new ObjectProperty("data", "string", () => data ?? ""),
        ]);
    }

    private static void CheckReadable(string file)
    {
        try
        {
            using FileStream opened = new(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            string reason = error switch
            {
                FileNotFoundException or DirectoryNotFoundException => ErrnoText.Describe(Errno.ENOENT),
                UnauthorizedAccessException => ErrnoText.Describe(Errno.EACCES),
                _ => error.Message,
            };
            throw new CommandException($"Unable to read {file}: Failed to open file “{file}”: {reason}", innerException: error);
        }
    }
}
