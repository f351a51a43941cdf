using Xunit;

namespace BlockMount.Interop;

/// <summary>
/// Tests that count what the whole process allocates, or race against the clock: they run after all others, one at a time, so that what they see is
/// their own.
/// </summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class RunAlone
{
    public const string Name = "alone";
}
