using Microsoft.Extensions.Logging;

namespace BlockMount.Exports;

/// <summary>Messages about exports of any kind.</summary>
internal static partial class ExportLog
{
    [LoggerMessage(Level = LogLevel.Error, Message = "the export at {Address} did not end cleanly")]
    internal static partial void EndFailed(ILogger logger, string address, Exception error);
}
