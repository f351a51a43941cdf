using System.Text.Json.Nodes;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Images;

/// <summary>A folder of images, and questions to blockmount and to qemu-img about the same one.</summary>
public abstract class ImageFixture : IDisposable
{
    private readonly ScratchFolder _folder = new();

    /// <summary>Absolute path of a name in the test's folder.</summary>
    protected string this[string name] => _folder[name];

    /// <summary>The folder itself.</summary>
    protected string Folder => _folder.FullPath;

    /// <inheritdoc/>
    public void Dispose()
    {
        _folder.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Runs blockmount; it must succeed.</summary>
    protected static async Task<string> BlockMountAsync(params string[] arguments) =>
        (await ReleaseBinary.RunAsync(arguments)).MustSucceed().Output;

    /// <summary>Runs blockmount; it must fail with 1 and say something of use.</summary>
    protected static async Task<string> FailAsync(params string[] arguments)
    {
        ToolResult result = await ReleaseBinary.RunAsync(arguments);
        Assert.Equal(1, result.ExitCode);
        Assert.StartsWith("blockmount: ", result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("internal error", result.Error, StringComparison.Ordinal);
        return result.Error;
    }

    /// <summary>qemu-img check must find neither errors nor leaks.</summary>
    protected static async Task AssertCleanAsync(string path)
    {
        QemuImg.Verdict verdict = await QemuImg.CheckAsync(path);
        Assert.True(verdict.ExitCode == 0, $"{path}: {verdict.Text}");
    }

    /// <summary>Both tools must give the same fields with the same values; ours may add the object "blockmount".</summary>
    protected static async Task AssertSameInfoAsync(params string[] arguments)
    {
        JsonNode theirs = JsonNode.Parse(await QemuImg.RunAsync(["info", "--output", "json", .. arguments]))!;
        JsonNode ours = JsonNode.Parse(await BlockMountAsync(["info", "--output", "json", .. arguments]))!;
        Normalise(theirs);
        Normalise(ours);
        Assert.True(JsonNode.DeepEquals(theirs, ours), $"qemu-img: {theirs}\nblockmount: {ours}");
    }

    private static void Normalise(JsonNode node)
    {
        if (node is JsonArray array)
        {
            foreach (JsonNode? item in array)
            {
                Normalise(item!);
            }

            return;
        }

        // "children" exists in later versions of qemu-img.
        node.AsObject().Remove("children");
        node.AsObject().Remove("blockmount");
    }
}
