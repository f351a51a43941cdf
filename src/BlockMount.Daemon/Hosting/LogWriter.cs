using System.Globalization;
using Microsoft.Extensions.Logging;

namespace BlockMount.Daemon.Hosting;

/// <summary>Writes log messages as lines to one stream: "2025-01-31T12:00:00.000Z warn Fuse: text". Thread-safe.</summary>
internal sealed class LogWriter : ILoggerProvider
{
    private readonly Lock _gate = new();
    private readonly TextWriter _output;
    private readonly bool _ownsOutput;

    private LogWriter(TextWriter output, bool ownsOutput)
    {
        _output = output;
        _ownsOutput = ownsOutput;
    }

    /// <summary>Appends to a file (made with mode 0600), each line at once.</summary>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static LogWriter ToFile(string path)
    {
        FileStream stream = new(path, new FileStreamOptions
        {
            Mode = FileMode.Append,
            Access = FileAccess.Write,
            Share = FileShare.ReadWrite | FileShare.Delete,
            UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
        });
        return new LogWriter(new StreamWriter(stream) { AutoFlush = true }, ownsOutput: true);
    }

    /// <summary>Writes to standard error.</summary>
    public static LogWriter ToStandardError() => new(Console.Error, ownsOutput: false);

    /// <inheritdoc/>
    public ILogger CreateLogger(string categoryName) =>
        new CategoryLogger(this, categoryName[(categoryName.LastIndexOf('.') + 1)..]);

    /// <summary>Writes one line.</summary>
    public void WriteLine(string level, string category, string text)
    {
        string time = DateTime.UtcNow.ToString("yyyy-MM-ddTHH:mm:ss.fffZ", CultureInfo.InvariantCulture);
        lock (_gate)
        {
            _output.WriteLine($"{time} {level} {category}: {text}");
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_ownsOutput)
        {
            _output.Dispose();
        }
    }

    private sealed class CategoryLogger(LogWriter writer, string category) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel != LogLevel.None;

        public void Log<TState>(
            LogLevel logLevel,
            EventId eventId,
            TState state,
            Exception? exception,
            Func<TState, Exception?, string> formatter)
        {
            string text = formatter(state, exception);
            writer.WriteLine(Word(logLevel), category, exception is null ? text : $"{text}: {exception.Message}");
        }

        private static string Word(LogLevel level) => level switch
        {
            LogLevel.Trace or LogLevel.Debug => "debug",
            LogLevel.Information => "info",
            LogLevel.Warning => "warn",
            _ => "error",
        };
    }
}
