using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Exports.Fuse;
using BlockMount.Exports.Fuse.Abi;
using BlockMount.Formats.Raw;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace BlockMount.Tests.Exports.Fuse;

/// <summary>The protocol on a raw disk in memory, without a mount: one request in, one reply out.</summary>
internal sealed unsafe class FuseFixture : IDisposable
{
    internal const int DiskSize = 64 << 10;

    private readonly FuseRequest _request = new();

    internal FuseFixture(
        bool writable = true, bool growable = false, bool admitsOthers = false, StorageFile? file = null, ILogger? logger = null)
    {
        File = file ?? new MemoryFile(content: Pattern(DiskSize));
        Device = new BlockDevice("disk0", new FormatNode("disk0", File.Name, new RawDriver(File), backing: null), readOnly: false);
        FuseExportOptions options = new() { MountPoint = "/disk", FileSystemName = "memory" };
        FuseFileAttributes attributes = new(Device, options, writable, admitsOthers, TimeProvider.System);
        FuseFileOperations operations = new(Device, attributes, writable, growable);
        Dispatcher = new FuseDispatcher(operations, new FuseSpaceOperations(Device, operations), logger ?? NullLogger.Instance, "/disk");
    }

    internal StorageFile File { get; }

    internal BlockDevice Device { get; }

    internal FuseDispatcher Dispatcher { get; }

    /// <summary>Bytes that tell their position.</summary>
    internal static byte[] Pattern(int length, int seed = 0)
    {
        byte[] bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    /// <summary>The reply frame; empty when there is none.</summary>
    internal byte[] Ask(byte[] frame)
    {
        frame.CopyTo(new Span<byte>(_request.Frame, FuseRequest.FrameCapacity));
        ValueTask<int> reply = Dispatcher.HandleAsync(_request, frame.Length);
        int length = reply.AsTask().GetAwaiter().GetResult();
        return new Span<byte>(_request.ReplyFrame, length).ToArray();
    }

    /// <summary>The error of the reply.</summary>
    internal Errno AskError<T>(FuseOpcode opcode, in T argument, ReadOnlySpan<byte> payload = default)
        where T : unmanaged => (Errno)(-FuseFrames.Header(Ask(FuseFrames.Build(opcode, argument, payload))).error);

    /// <summary>The body of a reply that must be a success.</summary>
    internal TReply AskFor<TArgument, TReply>(FuseOpcode opcode, in TArgument argument, ReadOnlySpan<byte> payload = default)
        where TArgument : unmanaged
        where TReply : unmanaged
    {
        byte[] reply = Ask(FuseFrames.Build(opcode, argument, payload));
        Xunit.Assert.Equal(0, FuseFrames.Header(reply).error);
        return FuseFrames.Body<TReply>(reply);
    }

    /// <summary>What the disk holds.</summary>
    internal byte[] Content() => ((MemoryFile)File).ToArray();

    public void Dispose() => _request.Dispose();
}
