namespace BlockMount.Exports.Fuse;

/// <summary>A thread that serves requests of one mount: a worker on a channel, or a ring.</summary>
internal interface IFuseServer
{
    /// <summary>Begins to serve.</summary>
    public void Start();

    /// <summary>
    /// Lets the thread end after the request that it serves is answered, and cuts a wait for the next one short. Repeat it until it has
    /// ended: a wait that begins at this very moment may be missed.
    /// </summary>
    public void Stop();
}

/// <summary>Who sends the reply of a request that was not answered at once.</summary>
internal interface IFuseReplier
{
    /// <summary>Sends the reply of a request that had to wait, and takes the request back. On the completing thread.</summary>
    /// <param name="replyLength">Length of the reply frame, or <see cref="FuseDispatcher.NoReply"/>.</param>
    public void FinishSuspended(FuseRequest request, int replyLength);

    /// <summary>Serves a request that was handed to <see cref="FuseRequest.Offload"/>. On a thread of the pool.</summary>
    public void ServeOffloaded(FuseRequest request);
}
