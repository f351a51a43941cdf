using BlockMount.Base;
using BlockMount.Formats;

namespace BlockMount.Block.Graph;

/// <summary>Words for a backing file that cannot be opened: which link, looked for where, and what may have been meant (USERS A14).</summary>
internal static class BrokenLink
{
    private const int NamesLookedAtMax = 10_000;
    private const int NamesShownMax = 5;

    /// <param name="failure">Why the file cannot be opened.</param>
    /// <param name="referringPath">The image that names it.</param>
    /// <param name="resolved">The path that was tried; null if the reference was refused before.</param>
    /// <param name="position">Number of the image in the chain, the active layer being 1.</param>
    public static BlockMountException Describe(
        BlockMountException failure, string referringPath, BackingReference reference, string? resolved, int position)
    {
        if (resolved is null)
        {
            return new ImageFormatException($"{failure.Message} (image {position} of the chain)", failure.Hint, failure);
        }

        string message = $"{failure.Message} (image {position} of the chain: '{referringPath}' names it as '{reference.FileName}')";
        string? hint = failure is BlockIOException { Errno: Errno.ENOENT or Errno.ENOTDIR }
            ? MissingHint(referringPath, reference, resolved)
            : failure.Hint;
        return new BlockMountException(message, hint, failure);
    }

    private static string MissingHint(string referringPath, BackingReference reference, string resolved)
    {
        int slash = resolved.LastIndexOf('/');
        string directory = slash < 0 ? "." : resolved[..(slash + 1)];
        string fix = $"If it has moved: 'qemu-img rebase -u -b NEW_PATH -F {reference.Format ?? "FORMAT"} {referringPath}'";
        if (!Directory.Exists(directory))
        {
            return $"The directory '{directory}' does not exist\n{fix}";
        }

        List<string> near = NearNames(directory, resolved[(slash + 1)..]);
        return near.Count == 0 ? fix : $"Similar in '{directory}': {string.Join(", ", near)}\n{fix}";
    }

    private static List<string> NearNames(string directory, string wanted)
    {
        try
        {
            return [.. Directory.EnumerateFiles(directory)
                .Take(NamesLookedAtMax)
                .Select(path => Path.GetFileName(path))
                .Where(name => !name.Any(char.IsControl))
                .Select(name => (Name: name, Distance: Distance(name, wanted)))
                .Where(match => match.Distance <= Math.Max(2, wanted.Length / 3))
                .OrderBy(match => match.Distance)
                .ThenBy(match => match.Name, StringComparer.Ordinal)
                .Take(NamesShownMax)
                .Select(match => match.Name)];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A directory that cannot be listed only means that there is nothing to suggest.
            return [];
        }
    }

    // Letters to insert, remove or replace, upper and lower case being the same.
    private static int Distance(string a, string b)
    {
        int[] row = [.. Enumerable.Range(0, b.Length + 1)];
        for (int i = 1; i <= a.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= b.Length; j++)
            {
                int replaced = diagonal + (char.ToLowerInvariant(a[i - 1]) == char.ToLowerInvariant(b[j - 1]) ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.Min(replaced, Math.Min(row[j], row[j - 1]) + 1);
            }
        }

        return row[b.Length];
    }
}
