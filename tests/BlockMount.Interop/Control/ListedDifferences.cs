using System.Text;
using BlockMount.TestSupport;

namespace BlockMount.Interop.Control;

/// <summary>Answers of QEMU and of this program to the same messages: equal, or listed with the reason in docs/qmp-differences.md.</summary>
internal static class ListedDifferences
{
    /// <returns>What differs and is not listed, and what is listed and does not; empty if all is well.</returns>
    public static async Task<string> CheckAsync(IReadOnlyList<string> messages, IReadOnlyList<string> theirs, IReadOnlyList<string> ours)
    {
        string[] lines = await File.ReadAllLinesAsync(Path.Combine(SourceTree.Root, "docs/qmp-differences.md"));
        string[] listed = [.. lines.Where(line => line.StartsWith("| `", StringComparison.Ordinal))];
        StringBuilder wrong = new();
        for (int i = 0; i < messages.Count; i++)
        {
            bool isListed = listed.Any(line => line.StartsWith($"| `{messages[i].Replace("|", "\\|", StringComparison.Ordinal)}` |", StringComparison.Ordinal));
            if (ours[i] != theirs[i] && !isListed)
            {
                _ = wrong.Append($"{messages[i]}\n  QEMU: {theirs[i]}\n  ours: {ours[i]}\n");
            }
            else if (ours[i] == theirs[i] && isListed)
            {
                _ = wrong.Append($"{messages[i]}\n  is listed as different, and is equal: {ours[i]}\n");
            }
        }

        return wrong.ToString();
    }
}
