using System.Globalization;

namespace BlockMount.TestSupport;

/// <summary>Persistent bitmaps as QEMU sees them. Tests that use it need "qemu-img", "qemu-nbd" and "nbdinfo".</summary>
public static class QemuBitmap
{
    /// <summary>The bits of a bitmap, least significant first, one for each <paramref name="granularity"/> bytes of a disk of <paramref name="size"/> bytes.</summary>
    public static async Task<byte[]> ReadAsync(string path, string name, long granularity, long size)
    {
        // A recording bitmap cannot be exported read-only.
        string copy = path + ".bitmaps";
        File.Copy(path, copy, overwrite: true);
        await QemuImg.RunAsync("bitmap", "--disable", "-f", "qcow2", copy, name);
        ToolResult map = (await ToolProcess.RunAsync(
            "nbdinfo", $"--map=qemu:dirty-bitmap:{name}", "--", "[", "qemu-nbd", "-r", "-f", "qcow2", "-B", name, copy, "]")).MustSucceed();
        byte[] bits = new byte[((size + granularity - 1) / granularity + 7) / 8];
        foreach (string line in map.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            // offset, length, type, description
            string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            long offset = long.Parse(words[0], CultureInfo.InvariantCulture);
            long end = offset + long.Parse(words[1], CultureInfo.InvariantCulture);
            for (long bit = offset / granularity; words[2] == "1" && bit * granularity < end; bit++)
            {
                bits[bit / 8] |= (byte)(1 << (int)(bit % 8));
            }
        }

        File.Delete(copy);
        return bits;
    }
}
