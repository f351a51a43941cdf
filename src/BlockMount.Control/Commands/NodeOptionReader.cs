using BlockMount.Base;
using BlockMount.Block.Filters;
using BlockMount.Block.Nodes;
using BlockMount.Block.Options;
using BlockMount.Control.Json;
using BlockMount.Control.Schema;
using BlockMount.Storage;

namespace BlockMount.Control.Commands;

/// <summary>Turns BlockdevOptions, which fit their description, into the options of nodes.</summary>
internal static class NodeOptionReader
{
    // Limits of the device that blkdebug imitates, and rules from a file.
    private static readonly string[] s_blkdebugUnsupported =
    [
        "config", "align", "max-transfer", "opt-write-zero", "max-write-zero", "opt-discard", "max-discard", "take-child-perms", "unshare-child-perms",
    ];

    /// <exception cref="CommandException">An option that this program does not have is used.</exception>
    internal static NodeOptions Read(JsonObject options)
    {
        NodeOptions node = options.Text("driver") switch
        {
            "file" => File(options, isHostDevice: false),
            "host_device" => File(options, isHostDevice: true),
            "qcow2" => Qcow2(options),
            "raw" => new RawNodeOptions { File = Child(options, "file"), Offset = Bytes(options, "offset") ?? 0, Size = Bytes(options, "size") },
            "null-co" => Null(options, isAio: false),
            "null-aio" => Null(options, isAio: true),
            "throttle" => new ThrottleNodeOptions { File = Child(options, "file"), Group = options.Text("throttle-group")! },
            "copy-on-read" => new CopyOnReadNodeOptions { File = Child(options, "file"), Bottom = options.Text("bottom") },
            "blkdebug" => Blkdebug(options),
            var driver => throw new CommandException($"Driver '{driver}' is not there yet"),
        };
        JsonObject? cache = options.Object("cache");
        return node with
        {
            NodeName = options.Text("node-name"),
            ReadOnly = options.Flag("read-only"),
            AutoReadOnly = options.Flag("auto-read-only") == true,
            ForceShare = options.Flag("force-share") == true,
            Discard = options.Text("discard") switch { "unmap" => true, "ignore" => false, _ => null },
            DetectZeroes = options.Text("detect-zeroes") switch { "on" => DetectZeroes.On, "unmap" => DetectZeroes.Unmap, _ => DetectZeroes.Off },
            Direct = cache?.Flag("direct"),
            NoFlush = cache?.Flag("no-flush"),
        };
    }

    private static ChildOption Child(JsonObject options, string name) => options[name] is JsonObject inner
        ? ChildOption.Of(Read(inner))
        : ChildOption.Of(options.Text(name)!);

    // drop-cache, x-check-cache-dropped: what they are about, a migration, does not exist here. aio-max-batch: a batch is never larger than what is waiting.
    private static FileNodeOptions File(JsonObject options, bool isHostDevice)
    {
        if (options.Text("pr-manager") is { } manager)
        {
            throw new CommandException($"No persistent reservation manager with id '{manager}'");
        }

        string? aio = options.Text("aio");
        return new FileNodeOptions
        {
            FileName = options.Text("filename")!,
            IsHostDevice = isHostDevice,
            Lock = options.Text("locking") switch { "on" => true, "off" => false, _ => null },
            Engine = aio switch { "threads" => IoEngine.Threads, "io_uring" => IoEngine.IoUring, _ => null },
            IsNative = aio == "native",
        };
    }

    private static Qcow2NodeOptions Qcow2(JsonObject options)
    {
        bool given = options.TryGet("backing", out JsonValue? backing);
        return new Qcow2NodeOptions
        {
            File = Child(options, "file"),
            DataFile = options.Contains("data-file") ? Child(options, "data-file") : null,
            Backing = given && backing is not JsonNull ? Child(options, "backing") : null,
            NoBacking = given && backing is JsonNull,
            EncryptionFormat = options.Object("encrypt")?.Text("format"),
            Runtime = Qcow2OptionReader.Read(options),
        };
    }

    private static NullNodeOptions Null(JsonObject options, bool isAio) => new()
    {
        IsAio = isAio,
        Size = Bytes(options, "size"),
        Latency = options.Integer("latency-ns") switch
        {
            null => null,
            < 0 => throw new CommandException("latency-ns is invalid"),
            { } nanoseconds => TimeSpan.FromTicks(nanoseconds / TimeSpan.NanosecondsPerTick),
        },
        ReadZeroes = options.Flag("read-zeroes"),
    };

    private static BlkdebugNodeOptions Blkdebug(JsonObject options)
    {
        foreach (string name in s_blkdebugUnsupported.Where(options.Contains))
        {
            throw new CommandException($"blkdebug: the option '{name}' is not supported");
        }

        return new BlkdebugNodeOptions
        {
            Image = Child(options, "image"),
            InjectErrors = [.. Rules(options, "inject-error").Select(InjectError)],
            SetStates = [.. Rules(options, "set-state").Select(rule => new SetState(
                rule.Text("event")!, (int)(rule.Integer("state") ?? 0), (int)rule.Integer("new_state")!.Value))],
        };
    }

    // immediately: a request that fails does so before anything is done for it in any case.
    private static InjectError InjectError(JsonObject rule) => new(rule.Text("event")!)
    {
        State = (int)(rule.Integer("state") ?? 0),
        Requests = rule.Text("iotype") switch
        {
            "read" => BlkdebugRequest.Read,
            "write" => BlkdebugRequest.Write,
            "write-zeroes" => BlkdebugRequest.WriteZeroes,
            "discard" => BlkdebugRequest.Discard,
            "flush" => BlkdebugRequest.Flush,
            "block-status" => BlkdebugRequest.BlockStatus,
            _ => BlkdebugRequest.Default,
        },
        Errno = (Errno)(rule.Integer("errno") ?? (int)Errno.EIO),
        Sector = rule.Integer("sector") ?? -1,
        Once = rule.Flag("once") == true,
    };

    /// <summary>A number of bytes; null if it is not given.</summary>
    /// <exception cref="CommandException">It is negative.</exception>
    internal static long? Bytes(JsonObject options, string name) => options.Integer(name) is < 0
        ? throw new CommandException($"Parameter '{name}' expects a non-negative number below 2^64")
        : options.Integer(name);

    private static IEnumerable<JsonObject> Rules(JsonObject options, string name) => (options.List(name) ?? new JsonList()).Cast<JsonObject>();
}
