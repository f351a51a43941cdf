namespace BlockMount.Control.Commands;

/// <summary>A character device that a monitor can sit on, as query-chardev shows it.</summary>
/// <param name="Label">Its id.</param>
/// <param name="FileName">Where it leads, as "unix:/run/a.sock,server=on".</param>
/// <param name="IsOpen">A monitor is attached.</param>
public sealed record MonitorChannel(string Label, string FileName, bool IsOpen);
