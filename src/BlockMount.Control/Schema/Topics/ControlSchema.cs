namespace BlockMount.Control.Schema;

/// <summary>Commands of the monitor itself and of the daemon's life.</summary>
internal static class ControlSchema
{
    internal const string Text = """
        enum QMPCapability: oob

        command qmp_capabilities
          | Ends the negotiation. Before it no other command is taken and no event is sent.
          *enable: [QMPCapability] | Capabilities of the greeting that the client wants. With 'oob', commands may come as 'exec-oob'.

        struct VersionTriple
          major: int
          minor: int
          micro: int

        struct VersionInfo
          qemu: VersionTriple | The version of QEMU whose behaviour is presented; clients decide by it what they may use.
          package: str | Name and version of this program.

        command query-version
          | The version that is presented to clients of QEMU, and that of this program.
          returns VersionInfo

        struct CommandInfo
          name: str

        command query-commands
          | The names of all commands.
          returns [CommandInfo]

        enum SchemaMetaType: builtin enum array object alternate command event
        enum JSONType: string number int boolean null object array value

        struct SchemaInfoBuiltin
          json-type: JSONType

        struct SchemaInfoEnumMember
          name: str
          *features: [str]

        struct SchemaInfoEnum
          members: [SchemaInfoEnumMember]
          values: [str] {deprecated}

        struct SchemaInfoArray
          element-type: str

        struct SchemaInfoObjectMember
          name: str
          type: str
          *default: any | There, and null, if the member may be left out.
          *features: [str]

        struct SchemaInfoObjectVariant
          case: str
          type: str

        struct SchemaInfoObject
          members: [SchemaInfoObjectMember]
          *tag: str | The member that decides which variant's members are added.
          *variants: [SchemaInfoObjectVariant]

        struct SchemaInfoAlternateMember
          type: str

        struct SchemaInfoAlternate
          members: [SchemaInfoAlternateMember]

        struct SchemaInfoCommand
          arg-type: str
          ret-type: str
          *allow-oob: bool

        struct SchemaInfoEvent
          arg-type: str

        union SchemaInfo on meta-type
          name: str | Types other than the built-in ones go by numbers, which change from version to version.
          meta-type: SchemaMetaType
          *features: [str]
          when builtin: SchemaInfoBuiltin
          when enum: SchemaInfoEnum
          when array: SchemaInfoArray
          when object: SchemaInfoObject
          when alternate: SchemaInfoAlternate
          when command: SchemaInfoCommand
          when event: SchemaInfoEvent

        command query-qmp-schema
          | Commands, events and types, for programs that ask what this one can do.
          returns [SchemaInfo]

        command quit
          | Ends the daemon: exports are closed, everything is flushed, locks are released.

        enum RunState: paused running

        struct StatusInfo
          running: bool
          singlestep: bool | Always false.
          status: RunState

        command query-status
          | Whether the devices take requests.
          returns StatusInfo

        command stop
          | Freezes the devices: what was written is flushed, and further requests wait until 'cont'.

        command cont
          | Thaws the devices.

        command human-monitor-command
          | Carries out a line of the human monitor. Its errors are part of the text.
          command-line: str
          *cpu-index: int | Accepted and ignored.
          returns str

        struct ChardevInfo
          label: str
          filename: str
          frontend-open: bool | A client is connected, or a monitor is attached.

        enum MonitorMode: readline control

        struct MonitorOptions
          | What the option --monitor takes.
          *id: str
          *mode: MonitorMode | 'control' by default; 'readline' is for people.
          *pretty: bool | Off by default.
          chardev: str | Id of a character device.

        command query-chardev
          | The character devices that monitors sit on.
          returns [ChardevInfo]
        """;
}
