using System.Net;
using System.Net.Sockets;
using System.Text;
using BlockMount.Base;
using BlockMount.Control.Json;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Client;

/// <summary>
/// A client of the machine protocol: negotiates, carries one command out at a time, and hands events on. Works with QEMU's monitors too. One thread.
/// </summary>
public sealed class QmpClient : IDisposable
{
    private readonly Stream _stream;
    private readonly Queue<JsonObject> _received = new();
    private readonly byte[] _buffer = new byte[64 << 10];
    private readonly JsonReader _reader;

    private QmpClient(Stream stream)
    {
        _stream = stream;
        _reader = new JsonReader((value, error) => _received.Enqueue(
            value as JsonObject ?? throw new BlockMountException($"the monitor sent something that is no QMP: {error ?? value!.ToString()}")));
    }

    /// <summary>Called for each event, in order, while a command is carried out.</summary>
    public Action<JsonObject>? OnEvent { get; set; }

    /// <summary>What the monitor said of itself: the member QMP of its greeting.</summary>
    public JsonObject Greeting { get; private set; } = new();

    /// <summary>Connects and negotiates.</summary>
    /// <exception cref="BlockMountException">Nobody answers there, or not in this protocol.</exception>
    public static QmpClient Connect(EndPoint endPoint)
    {
        Socket socket = new(endPoint.AddressFamily, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            socket.Connect(endPoint);
        }
        catch (SocketException error)
        {
            socket.Dispose();
            // .NET's word for a socket that is not there speaks of addresses.
            string reason = endPoint is UnixDomainSocketEndPoint && error.SocketErrorCode == SocketError.AddressNotAvailable ? "No such file or directory" : error.Message;
            throw new BlockMountException(
                $"could not connect to the monitor at '{endPoint}': {reason}", "'blockmount ls' lists the daemons; one has a monitor if it was started with --qmp", error);
        }

        QmpClient client = new(new NetworkStream(socket, ownsSocket: true));
        try
        {
            client.Greeting = client.Receive().Object("QMP") ?? throw new BlockMountException($"what answers at '{endPoint}' is no QMP monitor");
            _ = client.Execute("qmp_capabilities", new JsonObject());
            return client;
        }
        catch
        {
            client.Dispose();
            throw;
        }
    }

    /// <summary>Carries a command out and waits for its result.</summary>
    /// <exception cref="CommandException">It failed.</exception>
    /// <exception cref="BlockMountException">The connection is gone.</exception>
    public JsonValue Execute(string command, JsonObject arguments)
    {
        JsonObject request = new() { ["execute"] = command };
        if (arguments.Count > 0)
        {
            request["arguments"] = arguments;
        }

        return Execute(request);
    }

    /// <summary>Sends a whole message and waits for its answer.</summary>
    /// <exception cref="CommandException">The command failed.</exception>
    /// <exception cref="BlockMountException">The connection is gone.</exception>
    public JsonValue Execute(JsonObject request)
    {
        try
        {
            _stream.Write(Encoding.ASCII.GetBytes(JsonWriter.Write(request) + "\n"));
        }
        catch (IOException error)
        {
            throw new BlockMountException("the monitor has closed the connection", innerException: error);
        }

        while (true)
        {
            JsonObject answer = Receive();
            if (answer.Contains("event"))
            {
                OnEvent?.Invoke(answer);
            }
            else if (answer.Object("error") is { } error)
            {
                throw new CommandException(error.Text("desc") ?? "", error.Text("class") ?? CommandException.GenericError);
            }
            else if (answer.TryGet("return", out JsonValue? result))
            {
                return result;
            }
        }
    }

    /// <summary>Disconnects.</summary>
    public void Dispose() => _stream.Dispose();

    private JsonObject Receive()
    {
        while (_received.Count == 0)
        {
            int count;
            try
            {
                count = _stream.Read(_buffer);
            }
            catch (IOException error)
            {
                throw new BlockMountException("the monitor has closed the connection", innerException: error);
            }

            if (count == 0)
            {
                throw new BlockMountException("the monitor has closed the connection");
            }

            _reader.Feed(_buffer.AsSpan(0, count));
        }

        return _received.Dequeue();
    }
}
