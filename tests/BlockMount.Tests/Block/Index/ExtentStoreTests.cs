using System.Diagnostics;
using System.Runtime.CompilerServices;
using BlockMount.Block.Index;
using Xunit;

namespace BlockMount.Tests.Block.Index;

/// <summary>The memory of an index: finds what it was given, or nothing; never something else, and never more than its bytes.</summary>
public sealed class ExtentStoreTests
{
    private const long FoundMin = 1000;
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(60);

    private const int Page = 1 << 16;

    [Fact]
    public void Find_PieceBoundaries_GiveThePlaceOfTheByte()
    {
        ExtentStore store = new(4096, pageCount: 4);
        store.Put(2, [new Piece(0, 512, Place.Of(3, 8192)), new Piece(512, 1024, Place.Zero), new Piece(1024, 4096, Place.Unknown), new Piece(4096, Page, Place.Of(1, 0))]);
        Assert.Equal((Place.Of(3, 8192), 512), Find(store, 2, 0));
        Assert.Equal((Place.Of(3, 8192 + 511), 512), Find(store, 2, 511));
        Assert.Equal((Place.Zero, 1024), Find(store, 2, 512));
        Assert.Equal((Place.Unknown, 4096), Find(store, 2, 4095));
        Assert.Equal((Place.Of(1, 0), int.MaxValue), Find(store, 2, 4096));
        Assert.Equal((Place.Of(1, Page - 1 - 4096), int.MaxValue), Find(store, 2, Page - 1));
        Assert.False(store.TryFind(1, 0, out _, out _));
        Assert.False(store.TryFind(3, 0, out _, out _));
    }

    [Fact]
    public void Put_APageAgain_ReplacesIt()
    {
        ExtentStore store = new(4096, pageCount: 4);
        store.Put(1, [new Piece(0, Page, Place.Unknown)]);
        store.Put(1, [new Piece(0, 512, Place.Zero), new Piece(512, Page, Place.Of(1, 512))]);
        Assert.Equal((Place.Zero, 512), Find(store, 1, 0));
        List<Piece> pieces = [];
        Assert.True(store.TryCopy(1, Page, pieces));
        Assert.Equal([new Piece(0, 512, Place.Zero), new Piece(512, Page, Place.Of(1, 512))], pieces);
    }

    [Theory]
    [InlineData(512)]
    [InlineData(700)]
    [InlineData(4096)]
    [InlineData(100_000)]
    [InlineData(3 << 20)]
    public void Put_FarMoreThanThereIsRoomFor_KeepsWhatIsNewAndTheBound(int bytes)
    {
        ExtentStore store = new(bytes, pageCount: 1 << 20);
        Random random = new(bytes);
        for (long page = 0; page < 100_000; page++)
        {
            store.Put(page, Pieces(page, random.Next(1, store.PiecesMax + 1)));
            Assert.True(store.TryFind(page, 1, out Place place, out _));
            Assert.Equal(PlaceOf(page).After(1), place);
            if (page % 4096 == 0)
            {
                // What is found of older pages is theirs.
                for (long older = Math.Max(0, page - 2000); older < page; older++)
                {
                    Assert.True(!store.TryFind(older, 7, out place, out _) || place == PlaceOf(older).After(7));
                }
            }
        }

        Assert.InRange(store.AllocatedBytes, 1, bytes);
        Assert.False(store.TryFind(0, 0, out _, out _));
    }

    [Fact]
    public void Find_EverySlotTaken_AllPagesOfASmallDiskStay()
    {
        ExtentStore store = new(1 << 20, pageCount: 1000);
        for (long page = 0; page < 1000; page++)
        {
            store.Put(page, Pieces(page, 3));
        }

        for (long page = 0; page < 1000; page++)
        {
            Assert.True(store.TryFind(page, 0, out Place place, out _));
            Assert.Equal(PlaceOf(page), place);
        }
    }

    // The ring comes round some thousand times while readers look: each finds what was put, whole, or nothing.
    [Fact]
    public async Task Find_WhileTheRingIsOverwritten_IsNeverTorn()
    {
        ExtentStore store = new(2048, pageCount: 64);
        using CancellationTokenSource end = new();
        StrongBox<long> found = new();
        // Threads of their own: those of the pool may all be busy with other tests until the writer has finished.
        Task[] readers = [.. Enumerable.Range(0, 3).Select(seed =>
            Task.Factory.StartNew(() => ReadUntil(store, seed, found, end.Token), TaskCreationOptions.LongRunning))];
        Random random = new(1);
        Stopwatch watch = Stopwatch.StartNew();
        for (int i = 0; i < 400_000 || (Volatile.Read(ref found.Value) < FoundMin && watch.Elapsed < s_limit); i++)
        {
            long page = random.Next(64);
            store.Put(page, Pieces(page, random.Next(1, store.PiecesMax + 1)));
        }

        await end.CancelAsync();
        await Task.WhenAll(readers);
        Assert.True(found.Value >= FoundMin, $"only {found.Value} look-ups found something");
    }

    private static void ReadUntil(ExtentStore store, int seed, StrongBox<long> found, CancellationToken end)
    {
        Random random = new(seed);
        while (!end.IsCancellationRequested)
        {
            long page = random.Next(64);
            int within = random.Next(Page);
            if (store.TryFind(page, within, out Place place, out int behind))
            {
                // Every piece of a page goes on where the one before it ends.
                Assert.Equal(PlaceOf(page).After(within), place);
                Assert.True(behind > within);
                Interlocked.Increment(ref found.Value);
            }
        }
    }

    private static Place PlaceOf(long page) => Place.Of((int)(page % 1000) + 1, page << 20);

    private static List<Piece> Pieces(long page, int count)
    {
        List<Piece> pieces = [];
        for (int i = 0; i < count; i++)
        {
            int start = i * 512;
            pieces.Add(new Piece(start, i + 1 < count ? (i + 1) * 512 : int.MaxValue, PlaceOf(page).After(start)));
        }

        return pieces;
    }

    private static (Place Place, int End) Find(ExtentStore store, long page, int within)
    {
        Assert.True(store.TryFind(page, within, out Place place, out int end));
        return (place, end);
    }
}
