using System.Globalization;
using System.Text;
using BlockMount.Base;
using BlockMount.Control.Json;

namespace BlockMount.Control.Hmp;

/// <summary>Tables of internal snapshots, as QEMU's monitor prints them. Lines end with \n. Names come out of images, so nothing in them may move a cursor.</summary>
internal static class HmpSnapshotText
{
    /// <summary>Heads every table.</summary>
    internal const string Header = "ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT\n";

    /// <summary>What query-block returns: first the snapshots that every device has, by name, then what each one has besides.</summary>
    internal static string Of(JsonList devices)
    {
        (string Device, JsonObject[] Snapshots)[] all =
        [
            .. devices.Cast<JsonObject>().Select(device => (device.Text("device")!, Snapshots(device))),
        ];
        HashSet<string> common = [.. all.SelectMany(entry => Names(entry.Snapshots)).Where(name => all.All(entry => Names(entry.Snapshots).Contains(name)))];
        StringBuilder text = new();
        if (common.Count > 0)
        {
            _ = text.Append("List of snapshots present on all disks:\n").Append(Header);
            // Their ids differ from device to device.
            foreach (JsonObject snapshot in all[0].Snapshots.Where(snapshot => common.Contains(snapshot.Text("name")!)))
            {
                _ = text.Append(Row(snapshot, "--"));
            }
        }

        foreach ((string device, JsonObject[] snapshots) in all)
        {
            JsonObject[] partial = [.. snapshots.Where(snapshot => !common.Contains(snapshot.Text("name")!))];
            if (partial.Length > 0)
            {
                _ = text.Append(CultureInfo.InvariantCulture, $"\nList of partial (non-loadable) snapshots on '{device}':\n").Append(Header)
                    .AppendJoin("", partial.Select(snapshot => Row(snapshot, snapshot.Text("id")!)));
            }
        }

        return text.Length > 0 ? text.ToString() : "There is no snapshot available.\n";
    }

    /// <summary>One line of a table.</summary>
    internal static string Row(JsonObject snapshot, string id)
    {
        string date = DateTimeOffset.FromUnixTimeSeconds(snapshot.Integer("date-sec") ?? 0).ToLocalTime().ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture);
        long seconds = snapshot.Integer("vm-clock-sec") ?? 0;
        long milliseconds = (snapshot.Integer("vm-clock-nsec") ?? 0) / 1_000_000;
        string clock = string.Create(CultureInfo.InvariantCulture, $"{seconds / 3600:00}:{seconds / 60 % 60:00}:{seconds % 60:00}.{milliseconds:000}");
        string size = ByteSize.Format(snapshot.Integer("vm-state-size") ?? 0);
        string icount = snapshot.Integer("icount")?.ToString(CultureInfo.InvariantCulture) ?? "";
        return $"{Pad(id, 9)} {Pad(snapshot.Text("name")!, 16)} {size,8}{date,20}{clock,13}{icount,11}\n";
    }

    private static JsonObject[] Snapshots(JsonObject device) =>
        [.. device.Object("inserted")?.Object("image")?.List("snapshots")?.Cast<JsonObject>() ?? []];

    private static IEnumerable<string> Names(JsonObject[] snapshots) => snapshots.Select(snapshot => snapshot.Text("name")!);

    // QEMU counts bytes, not letters.
    private static string Pad(string text, int bytes)
    {
        string printable = string.Concat(text.Select(c => char.IsControl(c) ? '?' : c));
        return printable + new string(' ', Math.Max(bytes - Encoding.UTF8.GetByteCount(printable), 0));
    }
}
