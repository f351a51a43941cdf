using BlockMount.Block.Filters;
using BlockMount.Block.Nodes;
using BlockMount.Block.Options;
using BlockMount.Control.Commands;
using BlockMount.Control.Json;
using BlockMount.Control.Schema;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Storage;
using Xunit;

namespace BlockMount.Tests.Control.Commands;

/// <summary>Each described member of blockdev-add's options is carried out, or refused: none gets lost on the way to the graph.</summary>
public sealed class NodeOptionReaderTests
{
    [Fact]
    public void CommonOptions_AreTakenOver()
    {
        NodeOptions options = Read("""
            {"driver": "raw", "file": "f", "node-name": "n", "discard": "unmap", "read-only": true, "auto-read-only": true, "force-share": true, "detect-zeroes": "unmap",
             "cache": {"direct": true, "no-flush": true}, "offset": 512, "size": 1024}
            """);
        Assert.Equal(
            new RawNodeOptions
            {
                File = ChildOption.Of("f"),
                NodeName = "n",
                Discard = true,
                ReadOnly = true,
                AutoReadOnly = true,
                ForceShare = true,
                DetectZeroes = DetectZeroes.Unmap,
                Direct = true,
                NoFlush = true,
                Offset = 512,
                Size = 1024,
            },
            options);
        Assert.False(Read("""{"driver": "null-co", "discard": "ignore"}""").Discard);
        Assert.Null(Read("""{"driver": "null-co"}""").Discard);
    }

    [Theory]
    [InlineData("threads", IoEngine.Threads, false)]
    [InlineData("io_uring", IoEngine.IoUring, false)]
    [InlineData("native", null, true)]
    public void File_Aio_IsTakenOver(string aio, IoEngine? engine, bool native)
    {
        FileNodeOptions file = (FileNodeOptions)Read($$"""{"driver": "file", "filename": "x", "aio": "{{aio}}", "locking": "off", "drop-cache": false, "x-check-cache-dropped": true}""");
        Assert.Equal(engine, file.Engine);
        Assert.Equal(native, file.IsNative);
        Assert.False(file.Lock);
    }

    [Fact]
    public void Qcow2_EveryOptionOfTheDriver_IsTakenOver()
    {
        Qcow2NodeOptions options = (Qcow2NodeOptions)Read("""
            {"driver": "qcow2", "file": "f", "backing": null, "data-file": "d", "lazy-refcounts": true, "pass-discard-request": false, "pass-discard-snapshot": false,
             "pass-discard-other": true, "overlap-check": {"template": "constant", "active-l2": true, "main-header": false}, "cache-size": 9000000,
             "l2-cache-size": 1000000, "l2-cache-entry-size": 8192, "refcount-cache-size": 2000000, "cache-clean-interval": 30, "encrypt": {"format": "luks", "key-secret": "s"}}
            """);
        Assert.Equal(
            new Qcow2RuntimeOptions
            {
                LazyRefcounts = true,
                PassDiscardRequest = false,
                PassDiscardSnapshot = false,
                PassDiscardOther = true,
                OverlapTemplate = MetadataKinds.Constant,
                OverlapOn = MetadataKinds.ActiveL2,
                OverlapOff = MetadataKinds.MainHeader,
                CacheBytes = 9_000_000,
                L2CacheBytes = 1_000_000,
                L2CacheEntryBytes = 8192,
                RefcountCacheBytes = 2_000_000,
                CacheCleanInterval = TimeSpan.FromSeconds(30),
            },
            options.Runtime);
        Assert.True(options.NoBacking);
        Assert.Equal("d", options.DataFile!.Name);
        Assert.Equal("luks", options.EncryptionFormat);
        Assert.Equal(MetadataKinds.All, ((Qcow2NodeOptions)Read("""{"driver": "qcow2", "file": "f", "overlap-check": "all"}""")).Runtime.OverlapTemplate);
    }

    [Fact]
    public void Filters_AreTakenOver()
    {
        Assert.Equal(new CopyOnReadNodeOptions { File = ChildOption.Of("f"), Bottom = "b" }, Read("""{"driver": "copy-on-read", "file": "f", "bottom": "b"}"""));
        BlkdebugNodeOptions blkdebug = (BlkdebugNodeOptions)Read("""
            {"driver": "blkdebug", "image": "i", "inject-error": [{"event": "none", "iotype": "discard", "errno": 28, "sector": 3, "once": true, "immediately": true, "state": 2}],
             "set-state": [{"event": "pwritev", "state": 1, "new_state": 2}]}
            """);
        Assert.Equal(
            new InjectError("none") { Requests = BlkdebugRequest.Discard, Errno = BlockMount.Base.Errno.ENOSPC, Sector = 3, Once = true, State = 2 },
            Assert.Single(blkdebug.InjectErrors));
        Assert.Equal(new SetState("pwritev", 1, 2), Assert.Single(blkdebug.SetStates));
    }

    [Theory]
    [InlineData("""{"driver": "file", "filename": "x", "pr-manager": "p"}""", "No persistent reservation manager with id 'p'")]
    [InlineData("""{"driver": "raw", "file": "f", "offset": -5}""", "Parameter 'offset' expects a non-negative number below 2^64")]
    [InlineData("""{"driver": "null-co", "size": -1}""", "Parameter 'size' expects a non-negative number below 2^64")]
    [InlineData("""{"driver": "null-co", "latency-ns": -1}""", "latency-ns is invalid")]
    [InlineData("""{"driver": "qcow2", "file": "f", "cache-size": -1}""", "Parameter 'cache-size' expects a non-negative number below 2^64")]
    [InlineData("""{"driver": "qcow2", "file": "f", "cache-clean-interval": -1}""", "Cache clean interval too big")]
    [InlineData("""{"driver": "blkdebug", "image": "i", "align": 512}""", "blkdebug: the option 'align' is not supported")]
    [InlineData("""{"driver": "blkdebug", "image": "i", "config": "x"}""", "blkdebug: the option 'config' is not supported")]
    [InlineData("""{"driver": "blkdebug", "image": "i", "take-child-perms": ["write"]}""", "blkdebug: the option 'take-child-perms' is not supported")]
    public void WhatIsNotDone_IsRefused(string json, string message) => Assert.Equal(message, Assert.Throws<CommandException>(() => Read(json)).Message);

    private static NodeOptions Read(string json) => NodeOptionReader.Read((JsonObject)JsonReader.Parse(json));
}
