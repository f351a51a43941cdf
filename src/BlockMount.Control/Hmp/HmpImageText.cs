using System.Globalization;
using System.Text;
using BlockMount.Base;
using BlockMount.Control.Json;

namespace BlockMount.Control.Hmp;

/// <summary>An image (ImageInfo) in lines, as QEMU's monitor shows it in 'info block -v' and qemu-io in 'info'. Lines end with \n.</summary>
internal static class HmpImageText
{
    internal static string Of(JsonObject image)
    {
        StringBuilder text = new();
        Line(text, $"image: {image.Text("filename")}");
        Line(text, $"file format: {image.Text("format")}");
        Line(text, $"virtual size: {ByteSize.Format(image.Integer("virtual-size") ?? 0)} ({image.Integer("virtual-size")} bytes)");
        Line(text, $"disk size: {ByteSize.Format(image.Integer("actual-size") ?? 0)}");
        if (image.Flag("dirty-flag") == true)
        {
            Line(text, "cleanly shut down: no");
        }

        if (image.Integer("cluster-size") is { } cluster)
        {
            Line(text, $"cluster_size: {cluster}");
        }

        if (image.Text("backing-filename") is { } backing)
        {
            string actual = image.Text("full-backing-filename") is { } full && full != backing ? $" (actual path: {full})" : "";
            Line(text, $"backing file: {backing}{actual}");
            if (image.Text("backing-filename-format") is { } format)
            {
                Line(text, $"backing file format: {format}");
            }
        }

        if (image.List("snapshots") is { } snapshots)
        {
            _ = text.Append("Snapshot list:\n").Append(HmpSnapshotText.Header)
                .AppendJoin("", snapshots.Cast<JsonObject>().Select(snapshot => HmpSnapshotText.Row(snapshot, snapshot.Text("id")!)));
        }

        return text.Append(Specific(image)).ToString();
    }

    /// <summary>What only images of its format have; empty if there is nothing.</summary>
    internal static string Specific(JsonObject image)
    {
        if (image.Object("format-specific")?.Object("data") is not { } data)
        {
            return "";
        }

        StringBuilder text = new("Format specific information:\n");
        foreach ((string name, JsonValue value) in data.Members)
        {
            Line(text, $"    {name.Replace('-', ' ')}: {Word(value)}");
        }

        return text.ToString();
    }

    private static string Word(JsonValue value) => value switch
    {
        JsonBool flag => flag.Value ? "true" : "false",
        JsonInteger number => number.Value.ToString(CultureInfo.InvariantCulture),
        JsonString text => text.Value,
        _ => value.ToString(),
    };

    // Names come out of the image: nothing in them may move the cursor.
    private static void Line(StringBuilder text, string line) => text.Append(string.Concat(line.Select(c => char.IsControl(c) ? '?' : c))).Append('\n');
}
