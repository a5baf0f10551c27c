"""Tables of text, for Markdown and for LaTeX, and the cells of scores in them."""

import functools
import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

TABLE_STYLES = ("markdown", "latex")

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "≥": r"$\geq$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "−": "$-$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


@dataclass(frozen=True)
class RankedCell:
    """A cell that shows its rank among those of its column: the first bold, the second underlined.

    Args:
        text: What it says.
        rank: 1 for the best, 2 for the second; any other, or `None`, is not shown.
        mark: Stars of significance, which stand behind.
    """

    text: str
    rank: int | None = None
    mark: str = ""

    @property
    def markdown(self) -> str:
        """The cell in Markdown, where only HTML underlines."""
        text = _escape_markdown(self.text)
        text = {1: f"**{text}**", 2: f"<u>{text}</u>"}.get(self.rank or 0, text)
        return f"{text} {self.mark}".rstrip()  # stars between spaces are stars

    @property
    def latex(self) -> str:
        """The cell in LaTeX."""
        text = latex_text(self.text)
        text = {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(self.rank or 0, text)
        return f"{text}$^{{{self.mark}}}$" if self.mark else text


Cell: TypeAlias = str | RankedCell


def score_cell(
    label: str, mean: float | None, interval: Sequence[float] | None = None, mark: str = ""
) -> str:
    """Return the cell of a score, with its interval where there is one: `"84.10 [80.02, 87.31]"`.

    Args:
        label: What the table calls the score; where it ends in `%`, a share is printed in percent.
        mean: The score; a dash stands for `None`.
        interval: Its lower and upper end.
        mark: What to set behind the score, such as `"**"`.
    """
    if mean is None:
        return "–"
    scale = 100 if label.endswith("%") else 1
    cell = f"{scale * mean:.2f}{mark}"
    if interval is None:
        return cell
    low, high = interval
    return f"{cell} [{scale * low:.2f}, {scale * high:.2f}]"


def spread(scores: Sequence[float]) -> str:
    """Return the mean of several runs' scores, with their sample deviation: `"0.7340 ± 0.0200"`.

    Of one run, its score.
    """
    mean = f"{statistics.mean(scores):.4f}"
    return mean if len(scores) == 1 else f"{mean} ± {statistics.stdev(scores):.4f}"


def count_cell(count: int, total: int) -> str:
    """Return the cell of a count, `"2 of 4"`; a dash stands for a total of 0."""
    return f"{count} of {total}" if total else "–"


def p_cell(p: float | None) -> str:
    """Return the cell of a p-value; a dash stands for `None`."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def comparison_cells(
    runs: Sequence[str], comparisons: Mapping[str, Mapping[str, Any]], label: str | None = None
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a table that compares two runs.

    Args:
        runs: What to call them.
        comparisons: For each row, by its name, what `scoring.significance.describe_comparison`
            returned.
        label: What the table calls the score, as for `score_cell`; by default, rows are scores.
    """
    header = [label or "", *runs, "difference", "Wilcoxon p", "t-test p"]
    rows = []
    for name, compared in comparisons.items():
        cell = functools.partial(score_cell, label or name)
        rows.append(
            [
                name,
                cell(compared["mean"]),
                cell(compared["other_mean"]),
                cell(compared["difference"], compared["interval"], compared["mark"]),
                p_cell(compared["wilcoxon_p"]),
                p_cell(compared["t_test_p"]),
            ]
        )
    return header, rows


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return a Markdown table whose columns also line up as plain text."""
    lines = [[_escape(cell) for cell in line] for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)


def table_head(header: Sequence[str]) -> str:
    """Return the two lines that begin a Markdown table, to be followed by lines as they come."""
    return f"{table_line(header)}\n{table_line(['---'] * len(header))}"


def table_line(cells: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(map(_escape, cells))} |"


def _escape(cell: Cell) -> str:
    return (cell.markdown if isinstance(cell, RankedCell) else cell).replace("|", "\\|")


def _escape_markdown(text: str) -> str:
    """Return the Markdown that prints a text, within a cell whose bars are still to be escaped."""
    return re.sub(r"([\\*_<`])", r"\\\1", text)


def _latex(cell: Cell) -> str:
    return cell.latex if isinstance(cell, RankedCell) else latex_text(cell)


def listed(names: Sequence[str]) -> str:
    """Return names, one at least, as a sentence lists them: `"a, b and c"`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def fact_lines(facts: Mapping[str, str], indent: str = "  ") -> list[str]:
    """Return facts below one another, each behind what it is called."""
    width = max(map(len, facts))
    return [
        wrap(fact, f"{indent}{name:{width}}  ", " " * (len(indent) + width + 2))
        for name, fact in facts.items()
    ]


def wrap(text: str, first_indent: str, indent: str) -> str:
    """Return a text in lines of 96 characters; the first is indented in its own way."""
    return textwrap.fill(
        text,
        96,
        initial_indent=first_indent,
        subsequent_indent=indent,
        break_long_words=False,  # an address stays whole
        break_on_hyphens=False,
    )


def latex_table(header: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str) -> str:
    r"""Return a LaTeX table with a caption; the document needs `\usepackage{booktabs}`."""
    head, *body = (" & ".join(_latex(cell) for cell in line) + r" \\" for line in (header, *rows))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def latex_text(text: str) -> str:
    """Return the LaTeX that prints a text; a hyphen that begins a number prints as a minus."""
    text = re.sub(r"(?<!\w)-(?=\d)", "−", text)
    return "".join(_LATEX.get(character, character) for character in text)
