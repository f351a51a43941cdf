namespace BlockMount.Control.Schema;

/// <summary>Several changes at one moment, all or none.</summary>
internal static class TransactionSchema
{
    internal const string Text = """
        enum TransactionActionKind: abort blockdev-snapshot blockdev-snapshot-internal-sync blockdev-snapshot-sync
        enum ActionCompletionMode: individual grouped

        struct Abort

        struct AbortWrapper
          data: Abort

        struct BlockdevSnapshotWrapper
          data: BlockdevSnapshot

        struct BlockdevSnapshotInternalWrapper
          data: BlockdevSnapshotInternal

        struct BlockdevSnapshotSyncWrapper
          data: BlockdevSnapshotSync

        union TransactionAction on type
          type: TransactionActionKind
          when abort: AbortWrapper
          when blockdev-snapshot: BlockdevSnapshotWrapper
          when blockdev-snapshot-internal-sync: BlockdevSnapshotInternalWrapper
          when blockdev-snapshot-sync: BlockdevSnapshotSyncWrapper

        struct TransactionProperties
          *completion-mode: ActionCompletionMode | Whether jobs end one by one, the default, or together.

        command transaction
          | Carries out actions at one moment: requests wait from the first action to the last. One that fails undoes all.
          actions: [TransactionAction]
          *properties: TransactionProperties
        """;
}
