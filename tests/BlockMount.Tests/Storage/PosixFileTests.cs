using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Storage;

/// <summary>What a regular file does behind the storage seam; on the disk's file system and on tmpfs, buffered and direct, with threads and with io_uring.</summary>
public sealed class PosixFileTests : IDisposable
{
    private readonly TemporaryFolder _disk = new();
    private readonly TemporaryFolder _memory = new("/dev/shm");

    /// <summary>Places, buffered and direct, engines. Without io_uring its rows are missing; <see cref="UringEngineTests"/> tells the reason.</summary>
    public static TheoryData<string, bool, IoEngine> Kinds
    {
        get
        {
            TheoryData<string, bool, IoEngine> kinds = [];
            AddKinds(kinds, IoEngine.Auto);
            AddKinds(kinds, IoEngine.Threads);
            if (Requirements.WhatIsMissing(Needs.IoUring) is null)
            {
                AddKinds(kinds, IoEngine.IoUring);
            }

            return kinds;
        }
    }

    private static void AddKinds(TheoryData<string, bool, IoEngine> kinds, IoEngine engine)
    {
        kinds.Add("disk", false, engine);
        kinds.Add("disk", true, engine);
        kinds.Add("tmpfs", false, engine);
        kinds.Add("tmpfs", true, engine);
    }

    public void Dispose()
    {
        _disk.Dispose();
        _memory.Dispose();
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task Read_PastTheEnd_GivesZeros(string place, bool direct, IoEngine engine)
    {
        await using StorageFile file = await CreateAsync(place, direct, engine, [1, 2, 3]);
        byte[] buffer = Filled(5000, 0xEE);
        await file.ReadAsync(1, buffer);
        Assert.Equal([2, 3, 0], buffer[..3]);
        Assert.All(buffer[3..], value => Assert.Equal(0, value));
        await file.ReadAsync(1 << 30, buffer);
        Assert.All(buffer, value => Assert.Equal(0, value));
        Assert.Equal(3, file.Length);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task Write_PastTheEnd_GrowsToTheByte(string place, bool direct, IoEngine engine)
    {
        await using StorageFile file = await CreateAsync(place, direct, engine, []);
        long[] offsets = [0, 100, 511, 513, 4096, 8191, 1_000_001];
        foreach (long offset in offsets)
        {
            await file.WriteAsync(offset, Filled(777, 0xAB));
            Assert.Equal(offset + 777, file.Length);
            Assert.Equal(offset + 777, new FileInfo(file.Name).Length);
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task RandomOperations_AgainstAByteArray_Agree(string place, bool direct, IoEngine engine)
    {
        const int Capacity = 96 * 1024;
        Random random = new(7);
        byte[] model = new byte[Capacity];
        long length = 0;
        await using StorageFile file = await CreateAsync(place, direct, engine, []);
        for (int step = 0; step < 600; step++)
        {
            int offset = random.Next(Capacity - 1);
            int count = random.Next(1, random.Next(2) == 0 ? 600 : Capacity) is var wanted && offset + wanted > Capacity ? Capacity - offset : wanted;
            if (random.Next(4) == 0)
            {
                offset &= ~4095;
                count = Math.Min((count + 4095) & ~4095, Capacity - offset);
            }

            length = await StepAsync(file, random, model, length, offset, count);
            Assert.Equal(length, file.Length);
        }

        byte[] whole = new byte[Capacity];
        await file.ReadAsync(0, whole);
        Assert.True(whole.AsSpan().SequenceEqual(model));
        await file.FlushAsync();
        Assert.Equal(length, new FileInfo(file.Name).Length);
        Assert.True((await File.ReadAllBytesAsync(file.Name)).AsSpan().SequenceEqual(model.AsSpan(0, (int)length)));
    }

    private static async Task<long> StepAsync(StorageFile file, Random random, byte[] model, long length, int offset, int count)
    {
        switch (random.Next(7))
        {
            case 0 or 1:
                using (AlignedBuffer data = new(count))
                {
                    random.NextBytes(data.GetSpan());
                    data.GetSpan().CopyTo(model.AsSpan(offset));
                    await file.WriteAsync(offset, data.Memory);
                }

                return Math.Max(length, offset + count);
            case 2 or 3:
                using (AlignedBuffer read = new(count))
                {
                    read.GetSpan().Fill(0xEE);
                    await file.ReadAsync(offset, read.Memory);
                    Assert.True(read.GetSpan().SequenceEqual(model.AsSpan(offset, count)));
                }

                return length;
            case 4:
                await file.WriteZeroesAsync(offset, count, random.Next(2) == 0);
                model.AsSpan(offset, count).Clear();
                return Math.Max(length, offset + count);
            case 5:
                if (await file.PunchHoleAsync(offset, count))
                {
                    model.AsSpan(offset, count).Clear();
                }

                return length;
            default:
                await file.ResizeAsync(offset);
                model.AsSpan(offset).Clear();
                return offset;
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task RaggedWrites_ManyAtOnceInOneBlock_AllArrive(string place, bool direct, IoEngine engine)
    {
        await using StorageFile file = await CreateAsync(place, direct, engine, new byte[8192]);
        for (int round = 0; round < 20; round++)
        {
            byte value = (byte)(round + 1);
            Task[] writes = [.. Enumerable.Range(0, 64).Select(i => Task.Run(async () => await file.WriteAsync(i * 128, Filled(128, value))))];
            await Task.WhenAll(writes).WaitAsync(TimeSpan.FromSeconds(30));
            byte[] content = new byte[8192];
            await file.ReadAsync(0, content);
            Assert.All(content, found => Assert.Equal(value, found));
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task PunchHole_OfAllocatedSpace_GivesItBack(string place, bool direct, IoEngine engine)
    {
        await using StorageFile file = await CreateAsync(place, direct, engine, Filled(1 << 20, 1));
        await file.FlushAsync();
        long before = file.AllocatedBytes;
        Assert.True(before >= 1 << 20);
        Assert.True(await file.PunchHoleAsync(65536, 524288));
        Assert.True(file.AllocatedBytes <= before - 524288 + 4096);
        Assert.Equal(1 << 20, file.Length);
        FileExtent extent = await file.MapAsync(0, 1 << 20);
        Assert.Equal(new FileExtent(65536, IsHole: false), extent);
        Assert.Equal(new FileExtent(524288, IsHole: true), await file.MapAsync(65536, 1 << 20));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task Map_PastTheEnd_IsHole(string place, bool direct, IoEngine engine)
    {
        await using StorageFile file = await CreateAsync(place, direct, engine, Filled(4096, 1));
        Assert.Equal(new FileExtent(4096, IsHole: false), await file.MapAsync(0, 10000));
        Assert.Equal(new FileExtent(5904, IsHole: true), await file.MapAsync(4096, 5904));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task WriteZeroes_MustStayAllocated_KeepsTheSpace(string place, bool direct, IoEngine engine)
    {
        await using StorageFile file = await CreateAsync(place, direct, engine, Filled(65536, 1));
        await file.WriteZeroesAsync(0, 131072, mayUnmap: false);
        Assert.Equal(131072, file.Length);
        Assert.True(file.AllocatedBytes >= 131072);
        await file.WriteZeroesAsync(0, 262144, mayUnmap: true);
        Assert.Equal(262144, file.Length);
        Assert.True(file.AllocatedBytes < 65536);
    }

    [Fact]
    public async Task Resize_WhileWritesGrow_LeavesLengthAndFileEqual()
    {
        await using StorageFile file = await CreateAsync("disk", false, IoEngine.Auto, []);
        for (int round = 0; round < 50; round++)
        {
            Task writer = Task.Run(async () =>
            {
                for (int i = 0; i < 50; i++)
                {
                    await file.WriteAsync(i * 100, Filled(100, 1));
                }
            });
            for (int i = 0; i < 20; i++)
            {
                await file.ResizeAsync(i * 137 % 1000);
            }

            await writer.WaitAsync(TimeSpan.FromSeconds(30));
            Assert.Equal(new FileInfo(file.Name).Length, file.Length);
        }
    }

    [Fact]
    public async Task Use_AfterDispose_FailsWithBadDescriptor()
    {
        StorageFile file = await CreateAsync("disk", false, IoEngine.Auto, Filled(4096, 1));
        await file.DisposeAsync();
        await file.DisposeAsync();
        BlockIOException error = await Assert.ThrowsAsync<BlockIOException>(async () => await file.ReadAsync(0, new byte[10]));
        Assert.Equal(Errno.EBADF, error.Errno);
        await Assert.ThrowsAsync<BlockIOException>(async () => await file.FlushAsync());
        await Assert.ThrowsAsync<BlockIOException>(async () => await file.WriteAsync(0, new byte[10]));
    }

    [Fact]
    public async Task Flush_ManyAtOnce_AllComplete()
    {
        await using StorageFile file = await CreateAsync("disk", false, IoEngine.Auto, []);
        Task[] flushes = [.. Enumerable.Range(0, 50).Select(i => Task.Run(async () =>
        {
            await file.WriteAsync(i * 512, Filled(512, 1));
            await file.FlushAsync();
        }))];
        await Task.WhenAll(flushes).WaitAsync(TimeSpan.FromSeconds(60));
    }

    private async Task<StorageFile> CreateAsync(string place, bool direct, IoEngine engine, byte[] content)
    {
        string path = (place == "tmpfs" ? _memory : _disk).Create("file", content);
        return await PosixStorage.Instance.OpenAsync(path, new StorageOpenOptions { Direct = direct, Engine = engine });
    }

    private static byte[] Filled(int length, byte value)
    {
        byte[] buffer = new byte[length];
        buffer.AsSpan().Fill(value);
        return buffer;
    }
}
