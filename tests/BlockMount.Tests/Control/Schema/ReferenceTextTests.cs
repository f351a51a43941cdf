using System.Runtime.CompilerServices;
using BlockMount.Control;
using BlockMount.Control.Schema;
using BlockMount.Tests.Control.Qmp;
using Xunit;

namespace BlockMount.Tests.Control.Schema;

/// <summary>The committed reference is what the description says.</summary>
public sealed class ReferenceTextTests
{
    [Fact]
    public async Task TheReferenceIsUpToDate()
    {
        ControlMonitor monitor = new(new FakeHost());
        string text = ReferenceText.Of(monitor.Commands.Descriptions, CommandSchema.Own.Events.Values);
        string path = Path.GetFullPath("../../../../docs/qmp-reference.md", Path.GetDirectoryName(ThisFile())!);
        // BLOCKMOUNT_WRITE_REFERENCE=1 writes the file instead.
        if (Environment.GetEnvironmentVariable("BLOCKMOUNT_WRITE_REFERENCE") == "1")
        {
            await File.WriteAllTextAsync(path, text);
        }

        Assert.Equal(text, await File.ReadAllTextAsync(path));
    }

    private static string ThisFile([CallerFilePath] string path = "") => path;
}
