using System.Diagnostics;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2;

/// <summary>
/// The driver on images that qemu-img made, in memory, checked by qemu-img afterwards: the first line of interop, before the model tests.
/// </summary>
public sealed class Qcow2DriverTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("bm-driver-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [RequiresTheory(Needs.None, "qemu-img")]
    [InlineData("cluster_size=512,refcount_bits=1", 2 << 20)]
    [InlineData("cluster_size=512,refcount_bits=64", 8 << 20)]
    [InlineData("cluster_size=4096,refcount_bits=16,compat=0.10", 16 << 20)]
    [InlineData("cluster_size=65536,refcount_bits=16", 32 << 20)]
    [InlineData("cluster_size=2M,refcount_bits=8", 64 << 20)]
    public async Task RandomWrites_AnyGeometry_ReadBackAndPassQemuImgCheck(string options, int size)
    {
        string path = Path.Combine(_folder, "a.qcow2");
        Run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, $"{size}");
        MemoryFile file = new("a.qcow2", content: File.ReadAllBytes(path));
        byte[] model = new byte[size];
        await using (FormatNode node = await OpenAsync(file))
        {
            await RandomOperationsAsync(node, model, new Random(7), 300);
        }

        File.WriteAllBytes(path, file.ToArray());
        Run("qemu-img", "check", path);
        string raw = Path.Combine(_folder, "model.raw");
        File.WriteAllBytes(raw, model);
        Run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", path, raw);
    }

    private static async Task<FormatNode> OpenAsync(MemoryFile file) =>
        new("node0", file.Name, await Qcow2Driver.OpenAsync(file, new Qcow2OpenOptions { CacheBytes = 1 }), backing: null);

    private static async Task RandomOperationsAsync(FormatNode node, byte[] model, Random random, int count)
    {
        for (int i = 0; i < count; i++)
        {
            int offset = random.Next(model.Length);
            int length = 1 + random.Next(Math.Min(model.Length - offset, 200_000));
            switch (random.Next(8))
            {
                case 0:
                    await node.FlushAsync();
                    break;
                case 1:
                    await node.ZeroAsync(offset, length, (ZeroFlags)random.Next(2));
                    model.AsSpan(offset, length).Clear();
                    break;
                case 2:
                    await node.DiscardAsync(offset, length);
                    await node.ReadAsync(offset, model.AsMemory(offset, length));
                    break;
                case < 6:
                    byte[] data = new byte[length];
                    random.NextBytes(data);
                    await node.WriteAsync(offset, data);
                    data.CopyTo(model, offset);
                    break;
                default:
                    byte[] read = new byte[length];
                    await node.ReadAsync(offset, read);
                    Assert.True(read.AsSpan().SequenceEqual(model.AsSpan(offset, length)), $"operation {i}: {length} bytes at {offset}");
                    break;
            }
        }
    }

    private static void Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        string output = process.StandardOutput.ReadToEnd() + process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"{program} {string.Join(' ', arguments)}: {output}");
    }
}
