using BlockMount.TestSupport;

namespace BlockMount.Interop.Hostile;

/// <summary>Names that point outside: backing files and data files (RELIABILITY S5 to S7).</summary>
internal static class ReferenceCases
{
    private const uint BackingFormat = 0xe2792aca;
    private const uint DataFile = 0x44415441;
    private const ulong ExternalData = 4;

    // Where {0} is the test's folder: the file "secret" is there, and nobody may open it.
    private static readonly string[] s_names =
    [
        "json:{{\"driver\":\"raw\",\"file\":{{\"driver\":\"file\",\"filename\":\"{0}/secret\"}}}}",
        "json:{{\"driver\":\"nbd\",\"host\":\"127.0.0.1\",\"port\":\"9\"}}",
        "nbd://127.0.0.1:9/x",
        "fat:{0}",
        "host_device:{0}/secret",
        "https://127.0.0.1:9/x",
        "/proc/self/environ",
        "/proc/self/fd/0",
        "/dev/zero",
        "/dev/fd/0",
        "{0}/proc-link/self/environ",
        "{0}/fifo",
        "{0}",
        "image",
        "./image",
        "{0}/link-to-image",
        "secret\nsecret",
        "\u001b[2J",
    ];

    internal static IEnumerable<HostileImage> All()
    {
        foreach (string name in s_names)
        {
            yield return Backing(name);
            yield return Data(name);
        }
    }

    private static HostileImage Backing(string name) => Of($"backing file {Shown(name)}", name, (image, target) => image.OnlyExtension(BackingFormat, "raw", target));

    private static HostileImage Data(string name) => Of($"data file {Shown(name)}", name, (image, target) => image.Set64(72, ExternalData).OnlyExtension(DataFile, target));

    private static HostileImage Of(string title, string name, Action<ImageBytes, string> write) =>
        new(title, async folder =>
        {
            await MakeSurroundingsAsync(folder);
            ImageBytes image = new([.. await BaseImages.Plain]);
            write(image, string.Format(System.Globalization.CultureInfo.InvariantCulture, name, folder.FullPath));
            image.Save(folder["image"]);
        })
        {
            Forbidden = name.StartsWith('/') ? name : name.Contains("fifo", StringComparison.Ordinal) ? "fifo" : "secret",
            MustBeRefused = true,
        };

    private static async Task MakeSurroundingsAsync(ScratchFolder folder)
    {
        await File.WriteAllTextAsync(folder["secret"], "nobody reads this");
        File.CreateSymbolicLink(folder["proc-link"], "/proc");
        File.CreateSymbolicLink(folder["link-to-image"], folder["image"]);
        (await ToolProcess.RunAsync("mkfifo", folder["fifo"])).MustSucceed();
    }

    private static string Shown(string name) => name.Replace("{{", "{", StringComparison.Ordinal).Replace("}}", "}", StringComparison.Ordinal)
        .Replace("\n", "\\n", StringComparison.Ordinal).Replace("\u001b", "\\e", StringComparison.Ordinal);
}
