using System.Globalization;
using System.Text.Json;

namespace BlockMount.Bench.Loads;

/// <summary>What one fio run measured, all jobs together.</summary>
/// <param name="Iops">Requests per second.</param>
/// <param name="BytesPerSecond">Of the direction that the job asked for.</param>
/// <param name="P50">Median of the completion latency, microseconds; as are the next two.</param>
/// <param name="P99">99th percentile.</param>
/// <param name="P999">99.9th percentile.</param>
/// <param name="Requests">Requests completed in the measured time.</param>
internal sealed record FioResult(double Iops, double BytesPerSecond, double P50, double P99, double P999, long Requests)
{
    /// <summary>Reads the document of --output-format=json with --group_reporting.</summary>
    /// <param name="output">All that fio printed; remarks may stand before the document.</param>
    /// <param name="reads">Which direction the job asked for.</param>
    /// <exception cref="InvalidOperationException">No document, a job that failed, or one that completed nothing.</exception>
    public static FioResult Parse(string output, bool reads)
    {
        int start = output.IndexOf('{', StringComparison.Ordinal);
        if (start < 0)
        {
            throw new InvalidOperationException($"fio printed no JSON: {output.Trim()}");
        }

        using JsonDocument document = JsonDocument.Parse(output[start..]);
        JsonElement job = document.RootElement.GetProperty("jobs")[0];
        if (job.GetProperty("error").GetInt32() is int error and not 0)
        {
            throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture, $"fio's job failed with errno {error}"));
        }

        JsonElement measured = job.GetProperty(reads ? "read" : "write");
        long requests = measured.GetProperty("total_ios").GetInt64();
        if (requests == 0)
        {
            throw new InvalidOperationException("fio completed no request in the measured time");
        }

        JsonElement latency = measured.GetProperty("clat_ns").GetProperty("percentile");
        return new FioResult(
            measured.GetProperty("iops").GetDouble(),
            measured.GetProperty("bw_bytes").GetDouble(),
            latency.GetProperty("50.000000").GetDouble() / 1000,
            latency.GetProperty("99.000000").GetDouble() / 1000,
            latency.GetProperty("99.900000").GetDouble() / 1000,
            requests);
    }
}
