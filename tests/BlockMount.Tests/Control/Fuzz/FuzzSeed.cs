using BlockMount.TestSupport;

namespace BlockMount.Tests.Control.Fuzz;

/// <summary>Runs one seed; whatever comes out of it that was not expected names the seed and the command that repeats it.</summary>
internal static class FuzzSeed
{
    /// <exception cref="InvalidOperationException">Something came out.</exception>
    public static void Run(int seed, string test, Action action)
    {
        try
        {
            action();
        }
        catch (Exception error)
        {
            throw Named(seed, test, error);
        }
    }

    /// <exception cref="InvalidOperationException">Something came out.</exception>
    public static async Task<T> RunAsync<T>(int seed, string test, Func<Task<T>> action)
    {
        try
        {
            return await action();
        }
        catch (Exception error)
        {
            throw Named(seed, test, error);
        }
    }

    private static InvalidOperationException Named(int seed, string test, Exception error) =>
        new($"{TestBudget.Replay(seed, test)}\n{error.GetType().Name}: {error.Message}", error);
}
