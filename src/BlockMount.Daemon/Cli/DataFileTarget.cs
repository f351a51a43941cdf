using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Formats;

namespace BlockMount.Daemon.Cli;

/// <summary>Decides where the external data file of a new image is made.</summary>
internal static class DataFileTarget
{
    /// <summary>
    /// The path that <paramref name="name"/> stands for when the image is opened later. An existing file will be replaced; it must be none
    /// of the other files of the new image. Makes nothing.
    /// </summary>
    /// <param name="backing">The backing file as named; null if none.</param>
    /// <exception cref="BlockMountException">The name is refused, or the path is one of the others.</exception>
    public static string PathFor(string image, string name, string? backing)
    {
        var policy = new OpenPolicy();
        string path = policy.ResolveReference(image, new BackingReference(name, "raw"), "data file");
        if (IsSame(path, image))
        {
            throw new ImageFormatException($"The data file '{name}' and the image '{image}' are the same file", "Give the data file another name");
        }

        if (OpenPolicy.Identify(path) is not null)
        {
            policy.CheckReferenced(path);
        }

        if (backing is not null && IsSame(path, policy.ResolveReference(image, new BackingReference(backing, null))))
        {
            throw new ImageFormatException($"The data file '{name}' and the backing file '{backing}' are the same file", "Give the data file another name");
        }

        return path;
    }

    private static bool IsSame(string left, string right) =>
        (OpenPolicy.Identify(left) is { } identity && identity == OpenPolicy.Identify(right)) || RealName(left) == RealName(right);

    // Files that do not exist yet are the same if their directories are.
    private static string RealName(string path)
    {
        string full = Path.GetFullPath(path);
        return LibcPath.Resolve(Path.GetDirectoryName(full) ?? "/", out string directory) == Errno.None
            ? Path.Combine(directory, Path.GetFileName(full))
            : full;
    }
}
