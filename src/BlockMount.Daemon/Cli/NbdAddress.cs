using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace BlockMount.Daemon.Cli;

/// <summary>Reads the address of --nbd: unix:PATH, HOST:PORT, [IPV6]:PORT or :PORT (loopback).</summary>
public static class NbdAddress
{
    private const string Hint = "Write unix:PATH, HOST:PORT, [IPV6]:PORT, or :PORT for this machine only.";

    // sun_path holds 108 bytes with its final zero.
    private const int UnixPathBytesMax = 107;

    /// <summary>The end point that <paramref name="text"/> names.</summary>
    /// <exception cref="UsageException">It names none.</exception>
    public static EndPoint Parse(string text)
    {
        if (text.StartsWith("unix:", StringComparison.Ordinal))
        {
            return Unix(text["unix:".Length..]);
        }

        int colon = text.LastIndexOf(':');
        if (colon < 0)
        {
            throw new UsageException($"--nbd '{text}' is not an address", Hint);
        }

        if (!ushort.TryParse(text.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out ushort port))
        {
            throw new UsageException($"--nbd '{text}': '{text[(colon + 1)..]}' is not a port", Hint);
        }

        return new IPEndPoint(Host(text, text[..colon].Trim('[', ']')), port);
    }

    private static UnixDomainSocketEndPoint Unix(string path)
    {
        if (path.Length == 0)
        {
            throw new UsageException("--nbd unix: needs a path", Hint);
        }

        string full = Path.GetFullPath(path);
        if (System.Text.Encoding.UTF8.GetByteCount(full) > UnixPathBytesMax)
        {
            throw new UsageException(
                $"--nbd unix:{path}: the path has more than {UnixPathBytesMax} bytes",
                "The kernel takes no longer ones. Choose a shorter path, as under /run.");
        }

        return new UnixDomainSocketEndPoint(full);
    }

    private static IPAddress Host(string text, string host)
    {
        if (host.Length == 0)
        {
            return IPAddress.Loopback;
        }

        if (IPAddress.TryParse(host, out IPAddress? address))
        {
            return address;
        }

        try
        {
            return Dns.GetHostAddresses(host) is [IPAddress first, ..]
                ? first
                : throw new UsageException($"--nbd '{text}': the host '{host}' has no address", Hint);
        }
        catch (SocketException error)
        {
            throw new UsageException($"--nbd '{text}': the host '{host}' is not known ({error.Message})", Hint);
        }
    }
}
