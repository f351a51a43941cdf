namespace BlockMount.TestSupport;

/// <summary>The C programs in native-tests/, built on demand into artifacts/native-tests.</summary>
public static class NativeTests
{
    // Two builds at once would overwrite each other's output while it runs.
    private static readonly SemaphoreSlim s_gate = new(1);

    /// <summary>Absolute path of a program, which is built if it is not there or older than its source.</summary>
    public static async Task<string> BuildAsync(string name)
    {
        string root = SourceTree.Root;
        await s_gate.WaitAsync();
        try
        {
            string output = Path.Combine(root, "artifacts", "native-tests");
            (await ToolProcess.RunAsync("make", "-C", Path.Combine(root, "native-tests"), "CC=gcc", $"OUT={output}", Path.Combine(output, name))).MustSucceed();
            return Path.Combine(output, name);
        }
        finally
        {
            s_gate.Release();
        }
    }
}
