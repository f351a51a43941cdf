using System.Buffers.Binary;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Serving;

/// <summary>
/// Proves that kill -9 during random writes costs nothing that was flushed: no corruption, every sector holds its last flushed or a later
/// value, and the same command mounts again without help.
/// </summary>
[Collection(RunAlone.Name)]
public sealed class KillTests : ServedImageFixture
{
    private const int Rounds = 50;
    private const int Size = 8 << 20;
    private const int BlockSize = 4096;
    private const int BlockCount = Size / BlockSize;

    // What a block holds is the number of the write, in its first 8 bytes and as the seed of the rest.
    private readonly long[] _flushed = new long[BlockCount];
    private readonly List<long>[] _since = [.. Enumerable.Range(0, BlockCount).Select(_ => new List<long>())];
    private long _stamp;

    [RequiresFact(Needs.Release | Needs.Fuse, "qemu-img")]
    public async Task Kill_DuringWritesWithFlushes_KeepsWhatWasFlushed()
    {
        string below = MakeImage("base.raw", Size);
        File.WriteAllBytes(below, new byte[Size]);
        string image = await CreateAsync("a.qcow2", "cluster_size=65536", Size, below, "raw");
        Random random = new(50);
        for (int round = 0; round < Rounds; round++)
        {
            string disk = await MountAsync(image);
            Verify(disk, round);
            int pid = (await PidsAsync())[0];
            Task writer = Task.Run(() => WriteUntilDead(disk, new Random(round)));
            await Task.Delay(random.Next(5, 120));
            await KillAsync(pid);
            await writer;
            QemuImg.Verdict verdict = await CheckUnlockedAsync(image);
            Assert.True(verdict.IsUsable && verdict.Corruptions == 0, $"round {round}: {verdict.Text}");
        }

        Verify(await MountAsync(image), Rounds);
        await UmountAsync();
        Assert.True((await QemuImg.CheckAsync(image)).IsUsable);
        Assert.True(_stamp > Rounds * 10, $"only {_stamp} writes were made: the test would prove little");
    }

    // The kernel ends what the dead daemon had given to io_uring, and only then lets go of its files and their locks. Our own mount waits for that by itself.
    private static async Task<QemuImg.Verdict> CheckUnlockedAsync(string image)
    {
        QemuImg.Verdict verdict = await QemuImg.CheckAsync(image);
        for (int i = 0; i < 50 && verdict.Text.Contains("Failed to get", StringComparison.Ordinal); i++)
        {
            await Task.Delay(20);
            verdict = await QemuImg.CheckAsync(image);
        }

        return verdict;
    }

    private void WriteUntilDead(string path, Random random)
    {
        try
        {
            using FileStream disk = OpenDisk(path);
            while (true)
            {
                int block = random.Next(BlockCount);
                // Noted before it is written: it may be on disk whatever the call returns.
                _since[block].Add(++_stamp);
                RandomAccess.Write(disk.SafeFileHandle, Content(_stamp), (long)block * BlockSize);
                if (random.Next(8) == 0)
                {
                    long upTo = _stamp;
                    // A flush under way when the daemon dies gets ECONNABORTED.
                    CheckedFlush.Run(disk.SafeFileHandle);
                    NoteFlushed(upTo);
                }
            }
        }
        catch (Exception error) when (error is IOException or OperationCanceledException)
        {
            // The daemon is dead. ECANCELED is what the kernel says over io_uring.
        }
    }

    private void NoteFlushed(long upTo)
    {
        for (int block = 0; block < BlockCount; block++)
        {
            if (_since[block].Count > 0)
            {
                _flushed[block] = _since[block].FindLast(stamp => stamp <= upTo);
                _since[block].RemoveAll(stamp => stamp <= upTo);
            }
        }
    }

    private void Verify(string path, int round)
    {
        byte[] disk = File.ReadAllBytes(path);
        for (int block = 0; block < BlockCount; block++)
        {
            ReadOnlySpan<byte> here = disk.AsSpan(block * BlockSize, BlockSize);
            long stamp = BinaryPrimitives.ReadInt64LittleEndian(here);
            bool allowed = stamp == _flushed[block] || _since[block].Contains(stamp);
            Assert.True(allowed, $"round {round}: block {block} holds write {stamp}, flushed was {_flushed[block]}, later [{string.Join(' ', _since[block])}]");
            Assert.True(stamp == 0 ? !here.ContainsAnyExcept((byte)0) : here.SequenceEqual(Content(stamp)), $"round {round}: block {block} is torn");
            // What is there now is what later rounds start from: it was read, so it can only be replaced, not lost to an older value.
            _flushed[block] = stamp;
            _since[block].Clear();
        }
    }

    private static byte[] Content(long stamp)
    {
        byte[] content = new byte[BlockSize];
        new Random((int)stamp).NextBytes(content);
        BinaryPrimitives.WriteInt64LittleEndian(content, stamp);
        return content;
    }
}
