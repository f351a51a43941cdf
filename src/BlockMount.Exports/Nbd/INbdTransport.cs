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
