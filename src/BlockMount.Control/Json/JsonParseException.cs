namespace BlockMount.Control.Json;

/// <summary>Bytes that are not JSON. The message is QEMU's text behind "JSON parse error, ".</summary>
internal sealed class JsonParseException(string message) : Exception(message);
