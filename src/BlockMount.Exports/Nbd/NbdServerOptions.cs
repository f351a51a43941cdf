using System.Net;

namespace BlockMount.Exports.Nbd;

/// <summary>How an NBD server listens (FEATURES X1-X7).</summary>
public sealed record NbdServerOptions
{
    /// <summary>A <see cref="System.Net.Sockets.UnixDomainSocketEndPoint"/> (made with mode 0600) or an <see cref="IPEndPoint"/>; port 0 chooses one.</summary>
    public required EndPoint EndPoint { get; init; }

    /// <summary>Clients at once; 0 for no limit.</summary>
    public int ConnectionsMax { get; init; } = 100;

    /// <summary>A client that has not finished the handshake by then is disconnected; zero for no limit.</summary>
    public TimeSpan HandshakeTimeout { get; init; } = TimeSpan.FromSeconds(10);
}
