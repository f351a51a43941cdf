using static BlockMount.Control.Schema.BuiltinType;
using static BlockMount.Control.Schema.Describe;

namespace BlockMount.Control.Schema;

/// <summary>Commands and events of the monitor itself and of the daemon's life.</summary>
internal static class ControlSchema
{
    internal static readonly CommandDescription Capabilities = Command(
        "qmp_capabilities", "Ends the negotiation; before it no other command is taken, and after it events are sent.",
        [May("enable", ListOf(Enum("QMPCapability", "oob")), "Capabilities of the greeting that the client wants.")]) with
    { AllowOob = false };

    internal static readonly CommandDescription QueryVersion = Command(
        "query-version", "The version that this program presents to clients of QEMU, and its own in 'package'.", [],
        Struct("VersionInfo",
            Need("qemu", Struct("VersionTriple", Need("major", Int), Need("minor", Int), Need("micro", Int))),
            Need("package", Str)));

    internal static readonly CommandDescription QueryCommands = Command(
        "query-commands", "The names of all commands.", [], ListOf(Struct("CommandInfo", Need("name", Str))));

    internal static readonly CommandDescription QuerySchema = Command(
        "query-qmp-schema", "Commands, events and types, for programs.", [],
        ListOf(Struct("SchemaInfo", Need("name", Str), Need("meta-type", Enum(
            "SchemaMetaType", "builtin", "enum", "array", "object", "alternate", "command", "event")))));

    internal static readonly CommandDescription Quit = Command("quit", "Ends the daemon: exports are closed, everything is flushed, locks are released.", []);

    internal static readonly CommandDescription QueryStatus = Command(
        "query-status", "Whether the devices take writes.", [],
        Struct("StatusInfo", Need("running", Bool), Need("singlestep", Bool), Need("status", Enum("RunState", "paused", "running"))));

    internal static readonly CommandDescription Stop = Command(
        "stop", "Freezes the devices: what was written is flushed, and further requests wait until 'cont'.", []);

    internal static readonly CommandDescription Cont = Command("cont", "Thaws the devices.", []);

    internal static readonly CommandDescription HumanMonitor = Command(
        "human-monitor-command", "Carries out a line of the human monitor. Its errors are part of the text.",
        [Need("command-line", Str, "The line."), May("cpu-index", Int, "Accepted and ignored.")], Str);

    internal static readonly EventDescription Shutdown = Event(
        "SHUTDOWN", "The daemon is about to end.", Need("guest", Bool), Need("reason", Enum("ShutdownCause", "host-qmp-quit", "host-signal")));

    internal static readonly EventDescription Stopped = Event("STOP", "The devices were frozen.");

    internal static readonly EventDescription Resumed = Event("RESUME", "The devices were thawed.");
}
