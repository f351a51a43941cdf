using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>What a planned <see cref="ShadowChange"/> starts from: the image as it is, flushed, in exclusive use.</summary>
/// <param name="Header">The header; where <paramref name="L1"/> and <paramref name="Refcounts"/> lie is to be asked of them.</param>
/// <param name="Geometry">The arithmetic of the open image.</param>
/// <param name="Size">Virtual size in bytes.</param>
/// <param name="L1">The active L1 table, without changes that wait to be written.</param>
/// <param name="Refcounts">The refcounts in force.</param>
/// <param name="Change">Takes clusters and writes.</param>
internal sealed record ShadowContext(Qcow2Header Header, Geometry Geometry, long Size, L1Table L1, RefcountTable Refcounts, ShadowChange Change);
