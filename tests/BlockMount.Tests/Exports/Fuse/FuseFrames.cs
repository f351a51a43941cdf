using System.Runtime.InteropServices;
using BlockMount.Exports.Fuse.Abi;

namespace BlockMount.Tests.Exports.Fuse;

/// <summary>Builds request frames as the kernel does, and takes replies apart.</summary>
internal static class FuseFrames
{
    internal const ulong Unique = 4711;

    /// <summary>A request without an argument.</summary>
    internal static byte[] Build(FuseOpcode opcode, ulong unique = Unique, ulong node = FuseFlags.FUSE_ROOT_ID) =>
        Assemble(opcode, unique, node, [], []);

    /// <summary>A request with an argument and, perhaps, a payload.</summary>
    internal static byte[] Build<T>(
        FuseOpcode opcode, in T argument, ReadOnlySpan<byte> payload = default, ulong unique = Unique, ulong node = FuseFlags.FUSE_ROOT_ID)
        where T : unmanaged =>
        Assemble(opcode, unique, node, MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in argument)), payload);

    /// <summary>Header of a reply.</summary>
    internal static fuse_out_header Header(ReadOnlySpan<byte> reply) => MemoryMarshal.Read<fuse_out_header>(reply);

    /// <summary>The structure behind the header of a reply.</summary>
    internal static T Body<T>(ReadOnlySpan<byte> reply)
        where T : unmanaged => MemoryMarshal.Read<T>(reply[16..]);

    private static byte[] Assemble(FuseOpcode opcode, ulong unique, ulong node, ReadOnlySpan<byte> argument, ReadOnlySpan<byte> payload)
    {
        fuse_in_header header = new()
        {
            len = (uint)(40 + argument.Length + payload.Length),
            opcode = (uint)opcode,
            unique = unique,
            nodeid = node,
        };
        byte[] frame = new byte[header.len];
        MemoryMarshal.Write(frame, header);
        argument.CopyTo(frame.AsSpan(40));
        payload.CopyTo(frame.AsSpan(40 + argument.Length));
        return frame;
    }
}
