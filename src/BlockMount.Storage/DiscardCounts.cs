namespace BlockMount.Storage;

/// <summary>What a host file was asked to give back to its file system. Immutable.</summary>
/// <param name="Done">Requests that succeeded.</param>
/// <param name="Failed">Requests that failed, or that the file system could not carry out.</param>
/// <param name="Bytes">Bytes of those that succeeded.</param>
public sealed record DiscardCounts(long Done, long Failed, long Bytes);
