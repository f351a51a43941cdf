using System.Globalization;
using System.Text.Json;

namespace BlockMount.TestSupport;

/// <summary>Asks qemu-img and qemu-io, the other judges of an image. Tests that use it need "qemu-img" (and "qemu-io").</summary>
public static class QemuImg
{
    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(1);

    /// <summary>The verdict of qemu-img check.</summary>
    /// <param name="ExitCode">0 clean, 2 corrupt, 3 leaks only; anything else: could not check.</param>
    public sealed record Verdict(int ExitCode, long Corruptions, long Leaks, string Text)
    {
        /// <summary>All numbers of the answer by their names; those that it leaves out are not here. Empty if it gave none.</summary>
        public IReadOnlyDictionary<string, long> Numbers { get; init; } = new Dictionary<string, long>();

        /// <summary>No corruption; leaks are possible.</summary>
        public bool IsUsable => ExitCode is 0 or 3;
    }

    /// <summary>Runs a sub-command that must succeed.</summary>
    public static async Task<string> RunAsync(params string[] arguments) =>
        (await ToolProcess.RunAsync(s_patience, "qemu-img", arguments)).MustSucceed().Output;

    /// <summary>Runs qemu-io commands on an image; all must succeed.</summary>
    public static async Task IoAsync(string path, params string[] commands)
    {
        string[] arguments = ["-f", "qcow2", .. commands.SelectMany(command => new[] { "-c", command }), path];
        ToolResult result = (await ToolProcess.RunAsync(s_patience, "qemu-io", arguments)).MustSucceed();
        // qemu-io tells of failed requests in words only.
        if (result.Output.Contains("failed", StringComparison.Ordinal))
        {
            throw new InvalidOperationException(result.Output);
        }
    }

    /// <summary>Checks a qcow2 image.</summary>
    /// <param name="dataFile">Its data file; null if it has none, or if the image names it by an absolute path.</param>
    public static async Task<Verdict> CheckAsync(string path, string? dataFile = null)
    {
        string[] image = dataFile is null ? ["-f", "qcow2", path] : ["--image-opts", Options(path, dataFile)];
        ToolResult result = await ToolProcess.RunAsync(s_patience, "qemu-img", ["check", "--output", "json", .. image]);
        int start = result.Output.IndexOf('{', StringComparison.Ordinal);
        if (start < 0)
        {
            return new Verdict(result.ExitCode, -1, -1, result.Error);
        }

        using JsonDocument json = JsonDocument.Parse(result.Output[start..]);
        return new Verdict(result.ExitCode, Number(json, "corruptions"), Number(json, "leaks"), $"{result.Output}\n{result.Error}")
        {
            Numbers = json.RootElement.EnumerateObject().Where(field => field.Value.ValueKind == JsonValueKind.Number).ToDictionary(field => field.Name, field => field.Value.GetInt64()),
        };
    }

    /// <summary>Compares what a qcow2 image and a raw file read as, which must be equal.</summary>
    /// <param name="dataFile">The image's data file, see <see cref="CheckAsync"/>.</param>
    public static Task MustEqualRawAsync(string path, string rawPath, string? dataFile = null) => dataFile is null
        ? RunAsync("compare", "-f", "qcow2", "-F", "raw", path, rawPath)
        : RunAsync("compare", "--image-opts", Options(path, dataFile), $"driver=raw,file.driver=file,file.filename={rawPath}");

    /// <summary>Writes an image's bytes into a host file, for the tools to look at.</summary>
    public static async Task SaveAsync(string path, ReadOnlyMemory<byte> content)
    {
        await using FileStream stream = new(path, FileMode.Create, FileAccess.Write);
        await stream.WriteAsync(content);
    }

    /// <summary>Loads an image made by the tools into memory.</summary>
    public static async Task<MemoryFile> LoadAsync(string path, bool readOnly = false) =>
        new(Path.GetFileName(path), readOnly, await File.ReadAllBytesAsync(path));

    /// <summary>The guest's bytes as qemu-img reads them.</summary>
    public static async Task<byte[]> ReadGuestAsync(string path, string scratchPath)
    {
        await RunAsync("convert", "-f", "qcow2", "-O", "raw", path, scratchPath);
        return await File.ReadAllBytesAsync(scratchPath);
    }

    /// <summary>As <see cref="ReadGuestAsync"/>, of an internal snapshot if one is named; what cannot be read is zeros.</summary>
    public static async Task<byte[]> SalvageGuestAsync(string path, string scratchPath, string? snapshot = null)
    {
        string[] which = snapshot is null ? [] : ["-l", $"snapshot.name={snapshot}"];
        await RunAsync(["convert", "--salvage", "-f", "qcow2", .. which, "-O", "raw", path, scratchPath]);
        return await File.ReadAllBytesAsync(scratchPath);
    }

    /// <summary>Size in bytes for a command line.</summary>
    public static string Bytes(long size) => size.ToString(CultureInfo.InvariantCulture);

    private static string Options(string path, string dataFile) =>
        $"driver=qcow2,file.driver=file,file.filename={path},data-file.driver=file,data-file.filename={dataFile}";

    private static long Number(JsonDocument json, string name) =>
        json.RootElement.TryGetProperty(name, out JsonElement value) ? value.GetInt64() : 0;
}
