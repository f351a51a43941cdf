namespace BlockMount.TestSupport.Model;

/// <summary>What a disk holds after operations that ran one after the other, as plain bytes. Single-threaded.</summary>
public sealed class DiskModel
{
    private byte[] _content;

    /// <param name="content">The content at the beginning; copied.</param>
    public DiskModel(ReadOnlySpan<byte> content)
    {
        _content = content.ToArray();
    }

    /// <summary>The disk, byte for byte.</summary>
    public Memory<byte> Content => _content;

    /// <summary>Its size in bytes.</summary>
    public int Size => _content.Length;

    /// <summary>A model that goes on by itself.</summary>
    public DiskModel Clone() => new(_content);

    /// <summary>The disk holds something else from now on, of another size perhaps; copied.</summary>
    public void Replace(ReadOnlySpan<byte> content) => _content = content.ToArray();

    /// <summary>
    /// Does what <paramref name="operation"/> (clipped to the disk) does to the content. A discard counts as zeroing everything in its range, which the
    /// disk need not do: who compares must allow for what it kept.
    /// </summary>
    public void Apply(GuestOperation operation)
    {
        switch (operation.Kind)
        {
            case GuestOperationKind.Write:
            case GuestOperationKind.WriteCompressed:
                operation.FillData(_content.AsSpan((int)operation.Offset, operation.Length));
                break;
            case GuestOperationKind.Zero:
            case GuestOperationKind.ZeroMayUnmap:
            case GuestOperationKind.Discard:
                _content.AsSpan((int)operation.Offset, operation.Length).Clear();
                break;
            case GuestOperationKind.Resize:
                Array.Resize(ref _content, (int)operation.Offset);
                break;
            default:
                // Reads, flushes and reopening change nothing; snapshots are the business of SnapshotModel.
                break;
        }
    }
}
