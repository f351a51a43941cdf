namespace BlockMount.TestSupport;

/// <summary>Kinds of calls on a storage file; a set.</summary>
[Flags]
public enum StorageCalls
{
    None = 0,
    Read = 1,
    Write = 2,
    WriteZeroes = 4,
    PunchHole = 8,
    Flush = 16,
    Resize = 32,
    Map = 64,
    Close = 128,

    /// <summary>Calls that change the file's content or length.</summary>
    Changes = Write | WriteZeroes | PunchHole | Resize,

    /// <summary>Everything.</summary>
    All = Read | Changes | Flush | Map | Close,
}
