namespace BlockMount.Exports.Nbd;

/// <summary>The client broke the protocol in a way that leaves no common ground: the connection ends, the server goes on.</summary>
internal sealed class NbdProtocolException(string message) : Exception(message);

/// <summary>The client is gone, in the middle of a message or while it was answered.</summary>
internal sealed class NbdDisconnectedException() : Exception("the client disconnected");
