using System.Diagnostics;
using System.Net.Sockets;
using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Base.Interop;

namespace BlockMount.Exports.Nbd;

/// <summary>
/// A connected stream socket. Blocking calls on the connection's own thread: asynchronous sockets on the thread pool cost twice
/// as much for small requests, and the kernel's own calls a little less than the ones of <see cref="Socket"/>.
/// </summary>
internal sealed class SocketTransport : INbdTransport
{
    private readonly Socket _socket;

    // The receiving thread's.
    private readonly AdaptivePolling _polling = new();

    /// <summary>Takes over <paramref name="socket"/>.</summary>
    public SocketTransport(Socket socket)
    {
        _socket = socket;
        socket.Blocking = true;
    }

    public int Receive(Span<byte> buffer)
    {
        bool taken = false;
        try
        {
            _socket.SafeHandle.DangerousAddRef(ref taken);
            return Receive((int)_socket.SafeHandle.DangerousGetHandle(), buffer);
        }
        catch (ObjectDisposedException)
        {
            return 0;
        }
        finally
        {
            if (taken)
            {
                _socket.SafeHandle.DangerousRelease();
            }
        }
    }

    public bool Send(ReadOnlySpan<byte> bytes)
    {
        bool taken = false;
        try
        {
            _socket.SafeHandle.DangerousAddRef(ref taken);
            return Send((int)_socket.SafeHandle.DangerousGetHandle(), bytes);
        }
        catch (ObjectDisposedException)
        {
            return false;
        }
        finally
        {
            if (taken)
            {
                _socket.SafeHandle.DangerousRelease();
            }
        }
    }

    public void StopReceiving() => Shutdown(SocketShutdown.Receive);

    public void Abort() => Shutdown(SocketShutdown.Both);

    public void Dispose() => _socket.Dispose();

    private unsafe int Receive(int socket, Span<byte> buffer)
    {
        fixed (byte* start = buffer)
        {
            nint received = _polling.ShouldPoll() ? Poll(socket, start, buffer.Length) : -1;
            while (received < 0)
            {
                received = LibcSocket.recv(socket, start, (nuint)buffer.Length, 0);
                if (received < 0 && Libc.LastErrno != Errno.EINTR)
                {
                    return 0;
                }
            }

            return (int)received;
        }
    }

    // -1: nothing came.
    private unsafe nint Poll(int socket, byte* start, int length)
    {
        long deadline = AdaptivePolling.Deadline();
        while (true)
        {
            nint received = LibcSocket.recv(socket, start, (nuint)length, LibcSocket.MSG_DONTWAIT);
            if (received >= 0)
            {
                _polling.Succeeded();
                return received;
            }

            if (Stopwatch.GetTimestamp() >= deadline)
            {
                _polling.Failed();
                return -1;
            }
        }
    }

    private unsafe bool Send(int socket, ReadOnlySpan<byte> bytes)
    {
        fixed (byte* start = bytes)
        {
            byte* rest = start;
            byte* end = start + bytes.Length;
            while (rest < end)
            {
                nint sent = LibcSocket.send(socket, rest, (nuint)(end - rest), LibcSocket.MSG_NOSIGNAL);
                if (sent >= 0)
                {
                    rest += sent;
                }
                else if (Libc.LastErrno != Errno.EINTR)
                {
                    return false;
                }
            }
        }

        return true;
    }

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
