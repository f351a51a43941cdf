namespace BlockMount.Control.Schema;

/// <summary>A command that failed or does not fit its description. The message is what the client reads; its texts are QEMU's where QEMU has one.</summary>
public sealed class CommandException : Exception
{
    /// <summary>Class of nearly every error.</summary>
    public const string GenericError = "GenericError";

    /// <summary>Class of unknown commands.</summary>
    public const string CommandNotFound = "CommandNotFound";

    /// <summary>Class of jobs that are not there.</summary>
    public const string DeviceNotActive = "DeviceNotActive";

    /// <summary>Class of devices that are not there, where QEMU uses it.</summary>
    public const string DeviceNotFound = "DeviceNotFound";

    public CommandException(string message, string errorClass = GenericError, Exception? innerException = null)
        : base(message, innerException) => ErrorClass = errorClass;

    /// <summary>Class of the error on the wire.</summary>
    public string ErrorClass { get; }

    /// <summary>A parameter of the wrong type.</summary>
    internal static CommandException WrongType(string name, string expected) =>
        new($"Invalid parameter type for '{name}', expected: {expected}");
}
