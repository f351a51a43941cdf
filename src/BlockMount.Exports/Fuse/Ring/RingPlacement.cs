using BlockMount.Base.Interop;

namespace BlockMount.Exports.Fuse.Ring;

/// <summary>experiment</summary>
internal sealed class RingPlacement
{
    private static readonly string s_mode = Environment.GetEnvironmentVariable("BM_PLACE") ?? "none";
    private readonly int _processor;
    private bool _done;

    internal RingPlacement(int processor) => _processor = processor;

    internal void Observe(int served)
    {
        if (_done)
        {
            return;
        }

        _done = true;
        if (s_mode.Contains("pin"))
        {
            LibcThread.Confine(_processor);
        }

        if (s_mode.Contains("idle"))
        {
            LibcThread.SetPolicy(5);
        }

        if (s_mode.Contains("normal"))
        {
            LibcThread.SetPolicy(0);
        }

    }
}
