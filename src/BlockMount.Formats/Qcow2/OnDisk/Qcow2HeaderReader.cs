namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>Decodes and validates headers.</summary>
public static class Qcow2HeaderReader
{
}
