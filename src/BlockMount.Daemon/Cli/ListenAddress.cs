using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace BlockMount.Daemon.Cli;

/// <summary>Reads the address of a listening option: unix:PATH, HOST:PORT, [IPV6]:PORT or :PORT (loopback); for monitors also QEMU's forms.</summary>
public static class ListenAddress
{
    private const string Hint = "Write unix:PATH, HOST:PORT, [IPV6]:PORT, or :PORT for this machine only.";

    // sun_path holds 108 bytes with its final zero.
    private const int UnixPathBytesMax = 107;

    /// <summary>The end point of a monitor: PATH, unix:PATH or tcp:HOST:PORT, each with QEMU's ",server=on,wait=off" behind it or not.</summary>
    /// <param name="option">The option, for messages.</param>
    /// <exception cref="UsageException">It names none.</exception>
    public static EndPoint ParseMonitor(string option, string text)
    {
        string address = text.Split(',')[0];
        foreach (string word in text.Split(',').Skip(1))
        {
            if (word is not ("server" or "server=on" or "nowait" or "wait=off"))
            {
                throw new UsageException($"{option} '{text}': '{word}' is not known there", "Clients connect to the monitor and none is waited for: ',server=on,wait=off'.");
            }
        }

        return address.StartsWith("tcp:", StringComparison.Ordinal) ? Parse(option, address["tcp:".Length..])
            : address.StartsWith("unix:", StringComparison.Ordinal) ? Parse(option, address)
            : Unix(option, address);
    }

    /// <summary>The end point that <paramref name="text"/> names.</summary>
    /// <param name="option">The option, for messages.</param>
    /// <exception cref="UsageException">It names none.</exception>
    public static EndPoint Parse(string option, string text)
    {
        if (text.StartsWith("unix:", StringComparison.Ordinal))
        {
            return Unix(option, text["unix:".Length..]);
        }

        int colon = text.LastIndexOf(':');
        if (colon < 0)
        {
            throw new UsageException($"{option} '{text}' is not an address", Hint);
        }

        if (!ushort.TryParse(text.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out ushort port))
        {
            throw new UsageException($"{option} '{text}': '{text[(colon + 1)..]}' is not a port", Hint);
        }

        return new IPEndPoint(Host(option, text, text[..colon].Trim('[', ']')), port);
    }

    private static UnixDomainSocketEndPoint Unix(string option, string path)
    {
        if (path.Length == 0)
        {
            throw new UsageException($"{option} needs the path of a socket", Hint);
        }

        string full = Path.GetFullPath(path);
        if (System.Text.Encoding.UTF8.GetByteCount(full) > UnixPathBytesMax)
        {
            throw new UsageException(
                $"{option} unix:{path}: the path has more than {UnixPathBytesMax} bytes",
                "The kernel takes no longer ones. Choose a shorter path, as under /run.");
        }

        return new UnixDomainSocketEndPoint(full);
    }

    private static IPAddress Host(string option, string text, string host)
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
                : throw new UsageException($"{option} '{text}': the host '{host}' has no address", Hint);
        }
        catch (SocketException error)
        {
            throw new UsageException($"{option} '{text}': the host '{host}' is not known ({error.Message})", Hint);
        }
    }
}
