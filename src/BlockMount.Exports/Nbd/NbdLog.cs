using Microsoft.Extensions.Logging;

namespace BlockMount.Exports.Nbd;

/// <summary>Log lines of the NBD server. What a client can provoke at will stays below Warning.</summary>
internal static partial class NbdLog
{
    [LoggerMessage(1, LogLevel.Information, "NBD: listening on {address}")]
    public static partial void Listening(ILogger logger, string address);

    [LoggerMessage(2, LogLevel.Debug, "NBD: {client} connected")]
    public static partial void Connected(ILogger logger, string client);

    [LoggerMessage(3, LogLevel.Debug, "NBD: {client} entered export '{export}' (structured replies: {structured})")]
    public static partial void Entered(ILogger logger, string client, string export, bool structured);

    [LoggerMessage(4, LogLevel.Debug, "NBD: {client} disconnected")]
    public static partial void Disconnected(ILogger logger, string client);

    [LoggerMessage(5, LogLevel.Information, "NBD: {client} broke the protocol and is disconnected: {reason}")]
    public static partial void ProtocolBroken(ILogger logger, string client, string reason);

    [LoggerMessage(6, LogLevel.Information, "NBD: {client} did not finish the handshake in {timeout} and is disconnected")]
    public static partial void HandshakeTimedOut(ILogger logger, string client, TimeSpan timeout);

    [LoggerMessage(7, LogLevel.Information, "NBD: a client is turned away: {max} are connected already")]
    public static partial void TooManyClients(ILogger logger, int max);

    [LoggerMessage(8, LogLevel.Warning, "NBD: accepting a client failed: {reason}")]
    public static partial void AcceptFailed(ILogger logger, string reason);

    [LoggerMessage(9, LogLevel.Warning, "NBD export '{export}': {command} of {length} bytes at {offset} failed")]
    public static partial void RequestFailed(ILogger logger, string export, string command, ulong offset, uint length, Exception error);

    [LoggerMessage(10, LogLevel.Debug, "NBD export '{export}': {command} of {length} bytes at {offset} refused: {reason}")]
    public static partial void RequestRefused(ILogger logger, string export, string command, ulong offset, uint length, string reason);

    [LoggerMessage(11, LogLevel.Error, "NBD: the connection of {client} ended by an unexpected failure")]
    public static partial void ConnectionFailed(ILogger logger, string client, Exception error);
}
