namespace BlockMount.Formats.Qcow2.Bitmaps;

/// <summary>
/// Where the bits of a bitmap that is to be stored come from: fills <paramref name="bytes"/> with the bitmap's bytes from
/// <paramref name="offset"/> on, in the order of the disk (least significant bit first). Bits behind the end of the disk are ignored.
/// Called once for each piece, in ascending order, while the image's metadata is locked: it must not call the image.
/// </summary>
public delegate ValueTask BitmapSource(long offset, Memory<byte> bytes);
