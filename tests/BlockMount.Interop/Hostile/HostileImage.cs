using BlockMount.TestSupport;

namespace BlockMount.Interop.Hostile;

/// <summary>One hostile image and what is expected of programs that meet it.</summary>
/// <param name="Name">For people, and the test's name.</param>
/// <param name="Make">Writes the image "image" (and what it needs beside it) into the folder; {0} there is the folder's path.</param>
internal sealed record HostileImage(string Name, Func<ScratchFolder, Task> Make)
{
    /// <summary>A file that the image names and that nobody may open, by its name in the folder or an absolute path; null if there is none.</summary>
    internal string? Forbidden { get; init; }

    /// <summary>It must not be possible to mount it, not even read-only.</summary>
    internal bool MustBeRefused { get; init; }

    /// <summary>From bytes that one of the <see cref="BaseImages"/> has.</summary>
    internal static HostileImage Of(string name, Func<Task<byte[]>> source, Action<ImageBytes> damage, bool mustBeRefused = false) =>
        new(name, async folder =>
        {
            ImageBytes image = new([.. await source()]);
            damage(image);
            image.Save(folder["image"]);
        })
        {
            MustBeRefused = mustBeRefused,
        };
}
