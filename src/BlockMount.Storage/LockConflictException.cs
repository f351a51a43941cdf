using BlockMount.Base;

namespace BlockMount.Storage;

/// <summary>A lock of somebody is in the way. Does not leave <see cref="FileLocking"/>.</summary>
internal sealed class LockConflictException : BlockMountException
{
    public LockConflictException(bool hasNoHolder, string message, string hint)
        : base(message, hint) => HasNoHolder = hasNoHolder;

    /// <summary>No process of this host that may be looked at holds it.</summary>
    public bool HasNoHolder { get; }
}
