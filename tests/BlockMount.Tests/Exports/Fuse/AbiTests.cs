using System.Globalization;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using BlockMount.Base.Interop;
using BlockMount.Base.Interop.Uring;
using BlockMount.Exports.Fuse.Abi;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Exports.Fuse;

/// <summary>The declarations in Fuse/Abi and Base/Interop against the C headers, by a C program that prints them.</summary>
public sealed class AbiTests
{
    [RequiresToolFact("gcc", "make")]
    public async Task Structs_ComparedWithHeader_HaveSameLayout()
    {
        Dictionary<string, long> header = await ReadHeaderAsync();
        Type[] structs = [.. typeof(fuse_attr).Assembly.GetTypes().Where(type =>
            type.Namespace == typeof(fuse_attr).Namespace && type.IsValueType && !type.IsEnum && !type.IsNested)];

        Assert.NotEmpty(structs);
        foreach (Type type in structs)
        {
            if (!header.ContainsKey(type.Name) && type.Name.StartsWith("fuse_uring", StringComparison.Ordinal))
            {
                // The header is older than Linux 6.14; FuseRingTests compare them with the kernel.
                continue;
            }

            Assert.Equal(header[type.Name], SizeOf(type));
            foreach (FieldInfo field in type.GetFields(BindingFlags.Instance | BindingFlags.Public))
            {
                long offset = Marshal.OffsetOf(type, field.Name);
                Assert.True(header[$"{type.Name}.{field.Name}"] == offset, $"{type.Name}.{field.Name} is at {offset}");
            }
        }
    }

    [RequiresToolFact("gcc", "make")]
    public async Task Constants_ComparedWithHeader_HaveSameValues()
    {
        Dictionary<string, long> header = await ReadHeaderAsync();
        IEnumerable<(string Name, long Value)> ours = Constants(typeof(FuseFlags)).Concat(Constants(typeof(FuseUringCommand))).Concat(Constants(typeof(LibcMount))).Concat(Constants(typeof(IoUringConstants))).Concat(
            Enum.GetValues<FuseOpcode>().Select(opcode => (opcode.ToString(), (long)opcode)));

        int compared = 0;
        foreach ((string name, long value) in ours)
        {
            // Newer than the header of some distributions; the kernel's documentation is the source there.
            if (header.TryGetValue(name, out long expected))
            {
                Assert.True(expected == value, $"{name} is {value}, the header says {expected}");
                compared++;
            }
        }

        Assert.True(compared >= 40, $"only {compared} constants were compared");
    }

    [RequiresToolFact("gcc", "make")]
    public async Task IoUringStructs_ComparedWithHeader_HaveSameLayout()
    {
        Dictionary<string, long> header = await ReadHeaderAsync();
        foreach (Type type in new[] { typeof(io_uring_sqe), typeof(io_uring_cqe), typeof(io_uring_params), typeof(io_sqring_offsets), typeof(io_cqring_offsets) })
        {
            Assert.Equal(header[type.Name], SizeOf(type));
            foreach (FieldInfo field in type.GetFields(BindingFlags.Instance | BindingFlags.Public).Where(field => header.ContainsKey($"{type.Name}.{field.Name}")))
            {
                long offset = Marshal.OffsetOf(type, field.Name);
                Assert.True(header[$"{type.Name}.{field.Name}"] == offset, $"{type.Name}.{field.Name} is at {offset}");
            }
        }
    }

    [RequiresToolFact("gcc", "make")]
    public async Task LibcStructs_ComparedWithHeader_HaveSameLayout()
    {
        Dictionary<string, long> header = await ReadHeaderAsync();
        Assert.Equal(header["msghdr"], Unsafe.SizeOf<MsgHdr>());
        Assert.Equal(header["msghdr.msg_iov"], Marshal.OffsetOf<MsgHdr>(nameof(MsgHdr.Vectors)));
        Assert.Equal(header["msghdr.msg_control"], Marshal.OffsetOf<MsgHdr>(nameof(MsgHdr.Control)));
        Assert.Equal(header["msghdr.msg_flags"], Marshal.OffsetOf<MsgHdr>(nameof(MsgHdr.Flags)));
        Assert.Equal(header["cmsghdr+int"], Unsafe.SizeOf<CmsgOneDescriptor>());
        Assert.Equal(header["cmsg_data"], Marshal.OffsetOf<CmsgOneDescriptor>(nameof(CmsgOneDescriptor.Descriptor)));
        Assert.Equal(header["statx"], Unsafe.SizeOf<StatxStruct>());
        Assert.Equal(header["statx.stx_mode"], Marshal.OffsetOf<StatxStruct>(nameof(StatxStruct.Mode)));
        Assert.Equal(header["statx.stx_size"], Marshal.OffsetOf<StatxStruct>(nameof(StatxStruct.Size)));
        Assert.Equal(header["statx.stx_blocks"], Marshal.OffsetOf<StatxStruct>(nameof(StatxStruct.Blocks)));
        Assert.Equal(header["sigaction"], Unsafe.SizeOf<SigAction>());
        Assert.Equal(header["sigaction.sa_handler"], Marshal.OffsetOf<SigAction>(nameof(SigAction.Handler)));
        Assert.Equal(header["flock"], Unsafe.SizeOf<FlockStruct>());
        Assert.Equal(header["iovec"], Unsafe.SizeOf<IoVec>());
    }

    private static async Task<Dictionary<string, long>> ReadHeaderAsync()
    {
        string program = await NativeTests.BuildAsync("abi");
        string output = (await ToolProcess.RunAsync(program)).MustSucceed().Output;
        return output.Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(line => line.Split(' '))
            .ToDictionary(words => words[0], words => (long)ulong.Parse(words[1], CultureInfo.InvariantCulture));
    }

    private static IEnumerable<(string Name, long Value)> Constants(Type type) => type
        .GetFields(BindingFlags.Static | BindingFlags.Public)
        .Where(field => field.IsLiteral)
        .Select(field => (field.Name, unchecked((long)Convert.ToDecimal(field.GetRawConstantValue(), CultureInfo.InvariantCulture))));

    private static int SizeOf(Type type) =>
        (int)typeof(Unsafe).GetMethod(nameof(Unsafe.SizeOf))!.MakeGenericMethod(type).Invoke(null, null)!;
}
