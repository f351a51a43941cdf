using System.Runtime.InteropServices;

namespace BlockMount.Daemon.Hosting;

/// <summary>
/// Turns SIGINT, SIGTERM and SIGHUP into one request for an orderly end. Later ones change nothing: what was
/// acknowledged is still written out.
/// </summary>
internal sealed class Signals : IDisposable
{
    private readonly TaskCompletionSource<PosixSignal> _received = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly PosixSignalRegistration[] _registrations;

    /// <summary>From here on the signals no longer end the process.</summary>
    public Signals()
    {
        _registrations = [Register(PosixSignal.SIGINT), Register(PosixSignal.SIGTERM), Register(PosixSignal.SIGHUP)];
    }

    /// <summary>Completes with the first signal.</summary>
    public Task<PosixSignal> Received => _received.Task;

    /// <summary>Gives the signals their usual effect back.</summary>
    public void Dispose()
    {
        foreach (PosixSignalRegistration registration in _registrations)
        {
            registration.Dispose();
        }
    }

    private PosixSignalRegistration Register(PosixSignal signal) => PosixSignalRegistration.Create(signal, context =>
    {
        context.Cancel = true;
        _received.TrySetResult(signal);
    });
}
