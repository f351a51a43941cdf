using BlockMount.TestSupport;

namespace BlockMount.Bench.Servers;

/// <summary>What is mounted, from /proc/self/mountinfo.</summary>
internal static class Mounts
{
    /// <summary>Mount points at or below a folder, last mounted first.</summary>
    // proc(5): the fifth field is the mount point; our names hold nothing that would be escaped.
    public static IReadOnlyList<string> Below(string folder) =>
        [.. File.ReadLines("/proc/self/mountinfo").Select(line => line.Split(' ')[4]).Where(place => place == folder || place.StartsWith(folder + '/', StringComparison.Ordinal)).Reverse()];

    /// <summary>
    /// Takes away what a server left mounted that was killed or died. Servers that end by themselves unmount, so this finds nothing as a rule.
    /// </summary>
    public static async Task DetachAsync(string folder)
    {
        foreach (string place in Below(folder))
        {
            Console.Error.WriteLine($"bench: {place} was left mounted; unmounting it");
            ToolResult result = Environment.UserName == "root"
                ? await ToolProcess.RunAsync("umount", "--lazy", place)
                : await ToolProcess.RunAsync("fusermount3", "-u", "-z", place);
            result.MustSucceed();
        }
    }
}
