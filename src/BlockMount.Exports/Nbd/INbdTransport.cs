using System.Diagnostics;
using System.Net.Sockets;
using BlockMount.Base.Async;

namespace BlockMount.Exports.Nbd;

/// <summary>
/// A duplex byte stream to one client, with blocking calls: one thread receives, and one at a time sends. The seam for tests
/// in memory, with 1-byte receives, and for fuzzing. Both directions report a lost client by value, not by exception.
/// </summary>
internal interface INbdTransport : IDisposable
{
    /// <summary>Waits for at least one byte. Returns the number of bytes received, 0 when the client is gone.</summary>
    public int Receive(Span<byte> buffer);

    /// <summary>Sends everything; false when the client is gone.</summary>
    public bool Send(ReadOnlySpan<byte> bytes);

    /// <summary>Makes a blocked or later <see cref="Receive"/> return 0 while sending goes on. Any thread, also after disposal.</summary>
    public void StopReceiving();

    /// <summary>Makes both directions fail from now on. Any thread, also after disposal.</summary>
    public void Abort();
}

/// <summary>
/// A connected stream socket. Blocking calls on the connection's own thread: asynchronous sockets on the thread pool cost twice
/// as much for small requests.
/// </summary>
internal sealed class SocketTransport : INbdTransport
{
    private readonly Socket _socket;

    // The receiving thread's.
    private readonly AdaptivePolling _polling = new();

    /// <summary>Takes over <paramref name="socket"/>, which is in blocking mode.</summary>
    public SocketTransport(Socket socket) => _socket = socket;

    public int Receive(Span<byte> buffer)
    {
        if (_polling.ShouldPoll())
        {
            PollForData();
        }

        int received = _socket.Receive(buffer, SocketFlags.None, out SocketError error);
        return error == SocketError.Success ? received : 0;
    }

    // Spares the sleep, not the receive: an error or the end of the stream shows there.
    private void PollForData()
    {
        long deadline = AdaptivePolling.Deadline();
        try
        {
            while (_socket.Available == 0)
            {
                if (Stopwatch.GetTimestamp() >= deadline)
                {
                    _polling.Failed();
                    return;
                }
            }
        }
        catch (SocketException)
        {
            return;
        }

        _polling.Succeeded();
    }

    public bool Send(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            int sent = _socket.Send(bytes, SocketFlags.None, out SocketError error);
            if (error != SocketError.Success)
            {
                return false;
            }

            bytes = bytes[sent..];
        }

        return true;
    }

    public void StopReceiving() => Shutdown(SocketShutdown.Receive);

    public void Abort() => Shutdown(SocketShutdown.Both);

    public void Dispose() => _socket.Dispose();

    // A socket that another thread blocks in is shut down, not disposed: the blocked call returns and its thread cleans up.
    private void Shutdown(SocketShutdown how)
    {
        try
        {
            _socket.Shutdown(how);
        }
        catch (SocketException)
        {
            // The client disconnected by itself.
        }
        catch (ObjectDisposedException)
        {
            // The connection ended at the same moment.
        }
    }
}
