using System.Diagnostics;
using System.Text;

namespace BlockMount.TestSupport;

/// <summary>What a program left behind.</summary>
public sealed record ToolResult(string Command, int ExitCode, string Output, string Error)
{
    /// <summary>Returns this when the exit code is 0, otherwise throws with everything that was printed.</summary>
    public ToolResult MustSucceed() => ExitCode == 0
        ? this
        : throw new InvalidOperationException($"'{Command}' ended with {ExitCode}\n{Output}\n{Error}");
}

/// <summary>Runs programs, bounded in time. A program that takes too long is ended together with its children.</summary>
public static class ToolProcess
{
    /// <summary>Runs to the end, at most 60 seconds.</summary>
    public static Task<ToolResult> RunAsync(string program, params string[] arguments) =>
        RunAsync(TimeSpan.FromSeconds(60), program, arguments);

    /// <summary>Runs to the end, with empty standard input.</summary>
    /// <exception cref="TimeoutException">It took too long and was ended.</exception>
    public static async Task<ToolResult> RunAsync(TimeSpan limit, string program, params string[] arguments)
    {
        using Process process = Start(program, arguments);
        process.StandardInput.Close();
        StringBuilder output = new();
        StringBuilder error = new();
        Collect(process, output, error);
        string command = $"{Path.GetFileName(program)} {string.Join(' ', arguments)}";
        using CancellationTokenSource patience = new(limit);
        try
        {
            await process.WaitForExitAsync(patience.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException($"'{command}' did not end within {limit.TotalSeconds:0} s\n{Text(output)}\n{Text(error)}");
        }

        return new ToolResult(command, process.ExitCode, Text(output), Text(error));
    }

    /// <summary>Starts a program whose end the caller looks after; all three standard streams are redirected.</summary>
    public static Process Start(string program, params string[] arguments)
    {
        ProcessStartInfo info = new(program, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
        };
        info.Environment["LC_ALL"] = "C";
        return Process.Start(info) ?? throw new InvalidOperationException($"'{program}' did not start");
    }

    private static void Collect(Process process, StringBuilder output, StringBuilder error)
    {
        process.OutputDataReceived += (_, line) => Append(output, line.Data);
        process.ErrorDataReceived += (_, line) => Append(error, line.Data);
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
    }

    private static void Append(StringBuilder text, string? line)
    {
        if (line is not null)
        {
            lock (text)
            {
                text.Append(line).Append('\n');
            }
        }
    }

    private static string Text(StringBuilder text)
    {
        lock (text)
        {
            return text.ToString();
        }
    }
}
