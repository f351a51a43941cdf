using BlockMount.Exports.Nbd;

namespace BlockMount.Tests.Exports.Nbd;

/// <summary>
/// A client connection in memory. The server side is an <see cref="INbdTransport"/>; the test writes requests with
/// <see cref="ClientSend"/>, closes with <see cref="ClientClose"/> and reads what the server sent. Thread-safe.
/// </summary>
internal sealed class MemoryTransport : INbdTransport
{
    private readonly int _receiveMax;
    private readonly Lock _gate = new();

    // Both guarded by _gate; Monitor-free waiting by the two semaphores, which count appended pieces.
    private readonly Queue<byte[]> _toServer = new();
    private readonly Queue<byte[]> _toClient = new();
    private readonly SemaphoreSlim _serverSignal = new(0);
    private readonly SemaphoreSlim _clientSignal = new(0);

    // Used by the one receiving side only.
    private ReadOnlyMemory<byte> _serverPiece;
    private ReadOnlyMemory<byte> _clientPiece;

    // Accessed with Volatile.
    private bool _serverEnded;
    private bool _clientEnded;

    /// <param name="receiveMax">Most bytes that one receive of the server returns.</param>
    public MemoryTransport(int receiveMax = int.MaxValue) => _receiveMax = receiveMax;

    /// <summary>Sends of the server so far.</summary>
    public int SendCount { get; private set; }

    public int Receive(Span<byte> buffer)
    {
        if (_serverPiece.IsEmpty && !TryTake(_toServer, _serverSignal, ref _serverEnded, out _serverPiece))
        {
            return 0;
        }

        int count = Math.Min(Math.Min(_serverPiece.Length, buffer.Length), _receiveMax);
        _serverPiece.Span[..count].CopyTo(buffer);
        _serverPiece = _serverPiece[count..];
        return count;
    }

    public bool Send(ReadOnlySpan<byte> bytes)
    {
        if (Volatile.Read(ref _clientEnded))
        {
            return false;
        }

        SendCount++;
        Append(_toClient, _clientSignal, bytes.ToArray());
        return true;
    }

    public void StopReceiving()
    {
        Volatile.Write(ref _serverEnded, true);
        _serverSignal.Release();
    }

    public void Abort()
    {
        StopReceiving();
        Volatile.Write(ref _clientEnded, true);
        _clientSignal.Release();
    }

    public void Dispose() => Abort();

    public void ClientSend(ReadOnlySpan<byte> bytes) => Append(_toServer, _serverSignal, bytes.ToArray());

    /// <summary>The server's receive ends after what was sent before.</summary>
    public void ClientClose() => StopReceiving();

    /// <summary>Exactly so many bytes from the server; null if it ended before. Fails after 20 seconds.</summary>
    public byte[]? ClientReceive(int length)
    {
        byte[] result = new byte[length];
        for (int done = 0; done < length;)
        {
            if (_clientPiece.IsEmpty && !TryTake(_toClient, _clientSignal, ref _clientEnded, out _clientPiece))
            {
                return null;
            }

            int count = Math.Min(_clientPiece.Length, length - done);
            _clientPiece.Span[..count].CopyTo(result.AsSpan(done));
            _clientPiece = _clientPiece[count..];
            done += count;
        }

        return result;
    }

    private void Append(Queue<byte[]> queue, SemaphoreSlim signal, byte[] piece)
    {
        if (piece.Length > 0)
        {
            lock (_gate)
            {
                queue.Enqueue(piece);
            }

            signal.Release();
        }
    }

    private bool TryTake(Queue<byte[]> queue, SemaphoreSlim signal, ref bool ended, out ReadOnlyMemory<byte> piece)
    {
        while (true)
        {
            if (!signal.Wait(TimeSpan.FromSeconds(20)))
            {
                throw new TimeoutException("nothing arrived");
            }

            lock (_gate)
            {
                if (queue.TryDequeue(out byte[]? next))
                {
                    piece = next;
                    return true;
                }
            }

            if (Volatile.Read(ref ended))
            {
                piece = default;
                // Later receives must not wait either.
                signal.Release();
                return false;
            }
        }
    }
}
