using System.Globalization;
using System.Text;
using BlockMount.Base;
using BlockMount.Block.Graph;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Raw;
using BlockMount.Storage;

namespace BlockMount.Daemon.Cli;

/// <summary>The words of 'blockmount create' as they were given.</summary>
internal sealed record CreateArguments
{
    public required string FileName { get; init; }
    public string? Size { get; init; }
    public string Format { get; init; } = "raw";
    public IReadOnlyList<string> Options { get; init; } = [];
    public string? BackingFile { get; init; }
    public string? BackingFormat { get; init; }
    public bool Unsafe { get; init; }
    public bool Quiet { get; init; }
}

/// <summary>
/// A new image, completely decided: everything that can be wrong with the request has been found before this exists, and
/// nothing has been made yet.
/// </summary>
internal sealed record CreateRequest
{
    private readonly CreateOptionList _list;

    private CreateRequest(string fileName, string format, CreateOptionList list, long size, string? dataPath)
    {
        FileName = fileName;
        Format = format;
        _list = list;
        Size = size;
        DataPath = dataPath;
    }

    public string FileName { get; }

    public string Format { get; }

    /// <summary>Bytes as asked for, not rounded.</summary>
    public long Size { get; }

    /// <summary>Where the external data file is made; null for none. A relative name counts from the directory of the image.</summary>
    public string? DataPath { get; }

    /// <summary>Advice for the file system about the new files.</summary>
    public NewFileHints Hints => new(_list.NoCow ?? false, _list.ExtentSizeHint);

    /// <summary>Decides. Opens the backing file, if there is one, to look at its header.</summary>
    /// <exception cref="BlockMountException">The request cannot be met; says why.</exception>
    public static async ValueTask<CreateRequest> ResolveAsync(CreateArguments arguments, IStorageOpener files)
    {
        string format = arguments.Format is "raw" or "qcow2" ? arguments.Format : throw ImageInfo.UnknownFormat(arguments.Format);
        CreateOptionList list = CreateOptionList.Parse(arguments.Options, format);
        list = list with
        {
            Size = arguments.Size is null ? list.Size : ParseSize(arguments.Size),
            BackingFile = arguments.BackingFile ?? list.BackingFile,
            BackingFormat = arguments.BackingFormat ?? list.BackingFormat,
        };
        if (format == "raw" && list.BackingFile is not null)
        {
            throw new ImageFormatException("Backing file not supported for file format 'raw'", "Use '-f qcow2'");
        }

        if (list.BackingFile is null && list.BackingFormat is not null)
        {
            throw new ImageFormatException("A backing format was given without a backing file", "Name the backing file with '-b FILE'");
        }

        if (list.BackingFile is not null)
        {
            list = await WithBackingAsync(arguments, list, files);
        }

        long size = list.Size ?? throw new ImageFormatException(
            "Image creation needs a size parameter", $"As in: blockmount create -f {format} {arguments.FileName} 10G");
        string? dataPath = list.DataFile is null ? null : DataFileTarget.PathFor(arguments.FileName, list.DataFile, list.BackingFile);
        var request = new CreateRequest(arguments.FileName, format, list, size, dataPath);
        request.Validate();
        return request;
    }

    /// <summary>Makes the image in <paramref name="file"/>, which is new and empty, and its data file if it has one.</summary>
    public ValueTask WriteAsync(StorageFile file, StorageFile? dataFile) => Format == "raw"
        ? RawCreate.CreateAsync(file, Size, _list.Preallocation ?? Preallocation.Off)
        : Qcow2Create.CreateAsync(file, Qcow2Options(), dataFile);

    /// <summary>The line that qemu-img prints, with its words in its order.</summary>
    public string EchoLine()
    {
        var line = new StringBuilder($"Formatting '{FileName}', fmt={Format}");
        bool qcow2 = Format == "qcow2";
        string? preallocation = _list.Preallocation?.ToString().ToLowerInvariant();
        Add(line, "encryption", _list.EncryptionOff ? "off" : null);
        Add(line, "cluster_size", qcow2 ? Text(_list.ClusterSize) : null);
        Add(line, "extended_l2", qcow2 ? Switch(_list.ExtendedL2) : null);
        Add(line, "preallocation", qcow2 ? preallocation : null);
        Add(line, "compression_type", qcow2 ? _list.Compression.ToString().ToLowerInvariant() : null);
        Add(line, "size", Text(Size));
        Add(line, "nocow", qcow2 ? null : Switch(_list.NoCow));
        Add(line, "preallocation", qcow2 ? null : preallocation);
        Add(line, "compat", _list.Compat);
        Add(line, "backing_file", _list.BackingFile);
        Add(line, "backing_fmt", _list.BackingFormat);
        Add(line, "data_file", _list.DataFile);
        Add(line, "data_file_raw", Switch(_list.DataFileRaw));
        Add(line, "lazy_refcounts", qcow2 ? Switch(_list.LazyRefcounts) : null);
        Add(line, "refcount_bits", qcow2 ? Text(_list.RefcountBits) : null);
        Add(line, "nocow", qcow2 ? Switch(_list.NoCow) : null);
        Add(line, "extent_size_hint", _list.ExtentSizeHint is { } hint ? Text(hint) : null);
        return line.ToString();
    }

    private static long ParseSize(string text) => ByteSize.TryParse(text, out long bytes)
        ? bytes
        : throw new ImageFormatException(
            $"Invalid image size specified: '{text}'", "Give bytes, or a number with the suffix k, M, G, T, P or E (powers of 1024), as 1.5G");

    // An image that was looked at just now may lend its format and size. A raw file cannot be recognised: a guest may have
    // written anything into it, so raw must be said (USERS A14, B7).
    private static async ValueTask<CreateOptionList> WithBackingAsync(CreateArguments arguments, CreateOptionList list, IStorageOpener files)
    {
        string fileName = list.BackingFile!;
        if (arguments.Unsafe)
        {
            return list.BackingFormat is not null ? list : throw FormatMissing(fileName);
        }

        var policy = new OpenPolicy();
        string path = policy.ResolveReference(arguments.FileName, new BackingReference(fileName, list.BackingFormat));
        FileIdentity identity = policy.CheckReferenced(path);
        if (OpenPolicy.Identify(arguments.FileName) == identity)
        {
            throw new ImageFormatException("Trying to create an image with the same filename as the backing file");
        }

        var options = new ChainOpenOptions { ReadOnly = true, ForceShare = true, Format = list.BackingFormat, FormatWhenUnknown = "raw" };
        await using var chain = new BackingChain(files, policy, options);
        await chain.OpenTopAsync(path);
        ChainLink backing = chain.Links[0];
        if (list.BackingFormat is null && backing.Header is null)
        {
            throw FormatMissing(fileName);
        }

        return list with
        {
            BackingFormat = backing.Format,
            Size = list.Size ?? backing.Header?.Size ?? RawCreate.RoundedSize(backing.File.Length),
        };
    }

    private static ImageFormatException FormatMissing(string fileName) => new(
        $"Backing file '{fileName}' specified without backing format, and it has no qcow2 header",
        "Say the format: '-F raw' for a raw image");

    private void Validate()
    {
        if (Format == "raw")
        {
            RawCreate.RoundedSize(Size);
            if (_list.Preallocation == Preallocation.Metadata)
            {
                throw new ImageFormatException("Parameter 'preallocation' does not accept value 'metadata' for raw", "Possible: off, falloc, full");
            }
        }
        else
        {
            Qcow2Create.CheckPossible(Qcow2Options());
        }
    }

    private Qcow2CreateOptions Qcow2Options() => new()
    {
        Size = Size,
        Version = _list.Compat is "0.10" or "v2" ? 2 : 3,
        ClusterSize = _list.ClusterSize,
        RefcountBits = _list.RefcountBits,
        LazyRefcounts = _list.LazyRefcounts,
        Backing = _list.BackingFile is null ? null : new BackingReference(_list.BackingFile, _list.BackingFormat),
        Compression = _list.Compression,
        Preallocation = _list.Preallocation ?? Preallocation.Off,
        ExtendedL2 = _list.ExtendedL2,
        DataFile = _list.DataFile,
        DataFileRaw = _list.DataFileRaw ?? false,
    };

    private static void Add(StringBuilder line, string name, string? value)
    {
        if (value is not null)
        {
            line.Append(' ').Append(name).Append('=').Append(value.Replace(",", ",,", StringComparison.Ordinal));
        }
    }

    private static string? Switch(bool? value) => value switch { true => "on", false => "off", null => null };

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
}
