namespace BlockMount.Block.Nodes;

/// <summary>What becomes of a write that consists of zeros (option detect-zeroes).</summary>
public enum DetectZeroes
{
    /// <summary>It is written.</summary>
    Off,

    /// <summary>The range is zeroed, and keeps its space.</summary>
    On,

    /// <summary>The range is zeroed, and may lose its space.</summary>
    Unmap,
}
