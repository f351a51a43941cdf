using System.CommandLine;
using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Formats.Qcow2.Snapshots;
using BlockMount.Storage;

namespace BlockMount.Daemon.Cli;

/// <summary>
/// 'blockmount snapshot': the internal snapshots of an image that nobody has open, with the letters, the table and the exit codes of qemu-img snapshot.
/// Without a letter it lists.
/// </summary>
public static class SnapshotCommand
{
    private enum Change
    {
        Create,
        Apply,
        Delete,
    }

    /// <summary>The command for the tree; images are opened through <paramref name="files"/>. Failures leave as exceptions.</summary>
    public static Command Build(IStorageOpener files)
    {
        Argument<string> image = new("IMAGE") { Description = "the image, which no other program may have open" };
        Option<bool> list = new("-l") { Description = "list the snapshots (what it does without a letter)" };
        Option<string?> apply = new("-a") { Description = "go back to a snapshot, by id or else by name; what was written since is lost", HelpName = "SNAPSHOT" };
        Option<string?> create = new("-c") { Description = "take a snapshot", HelpName = "NAME" };
        Option<string?> delete = new("-d") { Description = "delete the snapshot of that name; the disk stays as it is", HelpName = "NAME" };
        Option<bool> quiet = new("-q", "--quiet") { Description = "print only the list and errors" };
        Option<bool> forceShare = new("-U", "--force-share") { Description = "list an image that is in use" };
        Option<string?> format = new("-f", "--format") { Description = "raw or qcow2; by default recognised", HelpName = "FMT" };
        Command command = new("snapshot", "List, take, apply and delete internal snapshots.") { image, list, apply, create, delete, quiet, forceShare, format };
        command.SetAction(async (parsed, _) =>
        {
            (Change, string)[] changes =
            [
                .. Given(Change.Apply, parsed.GetValue(apply)), .. Given(Change.Create, parsed.GetValue(create)), .. Given(Change.Delete, parsed.GetValue(delete)),
            ];
            if (changes.Length + (parsed.GetValue(list) ? 1 : 0) > 1)
            {
                throw new UsageException("'-l', '-a', '-c' and '-d' cannot be mixed", "Give one of them.");
            }

            ChainOpenOptions options = new()
            {
                Format = parsed.GetValue(format),
                ReadOnly = changes.Length == 0,
                ForceShare = parsed.GetValue(forceShare),
            };
            string path = parsed.GetRequiredValue(image);
            if (changes.Length == 0)
            {
                await ListAsync(files, path, options, parsed.InvocationConfiguration.Output);
                return 0;
            }

            if (options.ForceShare)
            {
                throw new UsageException("-U is for looking only", "Leave it out; the image must not be in use while its snapshots change.");
            }

            await ChangeAsync(files, path, options, changes[0].Item1, changes[0].Item2);
            return 0;
        });
        return command;
    }

    private static IEnumerable<(Change, string)> Given(Change change, string? name) => name is null ? [] : [(change, name)];

    // Of the chain only the image itself is opened: the table is in it.
    private static async ValueTask ListAsync(IStorageOpener files, string path, ChainOpenOptions options, TextWriter output)
    {
        await using BackingChain chain = new(files, new OpenPolicy(), options);
        await chain.OpenTopAsync(path);
        ImageInfo image = await ImageInfo.LoadAsync(chain.Links[0].File, path, chain.Links[0].Format);
        foreach (string line in SnapshotListText.Lines(image.Snapshots))
        {
            output.Write(SnapshotListText.Printable(line) + "\n");
        }
    }

    private static async ValueTask ChangeAsync(IStorageOpener files, string path, ChainOpenOptions options, Change change, string name)
    {
        BlockDevice device = new("image", await new ChainOpener(files, new OpenPolicy()).OpenAsync(path, options), readOnly: false);
        try
        {
            await ChangeAsync(device, change, name);
        }
        catch (BlockMountException e)
        {
            throw new BlockMountException($"Could not {change.ToString().ToLowerInvariant()} snapshot '{name}': {e.Message}", e.Hint, e);
        }
        finally
        {
            await device.DisposeAsync();
        }
    }

    private static async ValueTask ChangeAsync(BlockDevice device, Change change, string name)
    {
        switch (change)
        {
            case Change.Create:
                await device.CreateSnapshotAsync(name, new SnapshotMoment { Date = DateTimeOffset.UtcNow });
                break;
            case Change.Apply:
                await device.ApplySnapshotAsync(name);
                break;
            default:
                // As qemu-img: by name only.
                IReadOnlyList<SnapshotEntry> snapshots = await device.ListSnapshotsAsync();
                int index = SnapshotNames.IndexOfName(snapshots, name);
                await device.DeleteSnapshotAsync(index >= 0 ? snapshots[index].Id : throw new BlockMountException(
                    "snapshot not found", "'-l' lists the names; '-d' does not take ids"));
                break;
        }
    }
}
