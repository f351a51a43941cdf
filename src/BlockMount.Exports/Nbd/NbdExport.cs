using System.Numerics;
using BlockMount.Base;
using BlockMount.Block.Devices;
using static BlockMount.Exports.Nbd.Wire.NbdConstants;

namespace BlockMount.Exports.Nbd;

/// <summary>A device under a name on an <see cref="NbdServer"/>. Disposal removes it from the server and disconnects its clients.</summary>
public sealed class NbdExport : Export
{
    /// <summary>Largest payload of a request, in bytes.</summary>
    internal const int RequestBytesMax = 32 << 20;

    private const int PreferredBlockSizeMin = 4096;
    private const int SectorSize = 512;

    private readonly NbdExportTable _table;
    private readonly bool _multiConnection;
    private readonly TaskCompletionSource _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private readonly Lock _gate = new();

    // Guarded by _gate.
    private readonly HashSet<NbdConnection> _clients = [];
    private bool _closed;

    internal NbdExport(NbdExportTable table, string name, BlockDevice device, bool writable, string? description, string address, bool multiConnection)
    {
        _table = table;
        _multiConnection = multiConnection;
        Name = name;
        Device = device;
        Writable = writable;
        Description = description;
        Address = address;
    }

    /// <summary>The name that clients ask for.</summary>
    public string Name { get; }

    /// <summary>A line for people, shown by nbdinfo --list; null if none.</summary>
    public string? Description { get; }

    /// <inheritdoc/>
    public override string Id => $"nbd:{Name}";

    /// <inheritdoc/>
    public override string Kind => "nbd";

    /// <inheritdoc/>
    public override string Address { get; }

    /// <inheritdoc/>
    public override BlockDevice Device { get; }

    /// <inheritdoc/>
    public override bool Writable { get; }

    /// <inheritdoc/>
    public override Task Completion => _completion.Task;

    /// <summary>Clients connected now.</summary>
    public int ClientCount
    {
        get
        {
            lock (_gate)
            {
                return _clients.Count;
            }
        }
    }

    /// <summary>Size that clients see, in bytes: the device's, rounded down to whole sectors (FEATURES X5).</summary>
    internal long Size => Alignment.Down(Device.Size, SectorSize);

    /// <summary>Request size that suits the format: its cluster, within reason.</summary>
    internal uint PreferredBlockSize
    {
        get
        {
            int cluster = Device.Root.ClusterSize;
            return (uint)(BitOperations.IsPow2(cluster) ? Math.Clamp(cluster, PreferredBlockSizeMin, RequestBytesMax) : PreferredBlockSizeMin);
        }
    }

    /// <summary>Transmission flags (FEATURES X3). SEND_FAST_ZERO is not offered: a device cannot tell beforehand whether zeroing is fast.</summary>
    internal ushort TransmissionFlags(bool structuredReplies)
    {
        int flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE;
        flags |= Writable ? NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES : NBD_FLAG_READ_ONLY;
        flags |= structuredReplies ? NBD_FLAG_SEND_DF : 0;
        // A flush flushes the device, whichever connection wrote: that is what the flag promises.
        flags |= _multiConnection ? NBD_FLAG_CAN_MULTI_CONN : 0;
        return (ushort)flags;
    }

    /// <summary>Counts a client in; false when the export is going away.</summary>
    internal bool TryAttach(NbdConnection client)
    {
        lock (_gate)
        {
            return !_closed && _clients.Add(client);
        }
    }

    /// <summary>Counts a client out.</summary>
    internal void Detach(NbdConnection client)
    {
        lock (_gate)
        {
            _clients.Remove(client);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        NbdConnection[] clients;
        lock (_gate)
        {
            _closed = true;
            clients = [.. _clients];
        }

        _table.Remove(this);
        await NbdConnection.StopAllAsync(clients);
        _completion.TrySetResult();
    }
}
