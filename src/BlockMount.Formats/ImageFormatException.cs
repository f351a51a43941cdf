using BlockMount.Base;

namespace BlockMount.Formats;

/// <summary>
/// An image cannot be opened or created as asked: not an image of that format, damaged, unsupported or refused by policy. The message names
/// the file, the field, its value and the limit. Nothing was changed.
/// </summary>
public sealed class ImageFormatException : BlockMountException
{
    /// <inheritdoc cref="BlockMountException(string, string?, Exception?)"/>
    public ImageFormatException(string message, string? hint = null, Exception? innerException = null)
        : base(message, hint, innerException)
    {
    }
}
