using System.Text;

namespace BlockMount.Bench.Documents;

/// <summary>Writes one table. Cells hold no line breaks; bars in them are escaped.</summary>
internal sealed class MarkdownTable
{
    private readonly StringBuilder _text = new();
    private readonly int _columns;

    /// <param name="columns">Heads; those that end with ':' are of numbers, to the right.</param>
    public MarkdownTable(params string[] columns)
    {
        _columns = columns.Length;
        Add([.. columns.Select(column => column.TrimEnd(':'))]);
        _text.Append('|').AppendJoin('|', columns.Select(column => column.EndsWith(':') ? "---:" : "---")).Append("|\n");
    }

    /// <summary>Adds a row with a cell for each column.</summary>
    public void Add(params string[] cells)
    {
        if (cells.Length != _columns)
        {
            throw new ArgumentException($"{cells.Length} cells for {_columns} columns", nameof(cells));
        }

        _text.Append("| ").AppendJoin(" | ", cells.Select(cell => cell.Replace("|", "\\|", StringComparison.Ordinal))).Append(" |\n");
    }

    public override string ToString() => _text.ToString();
}
