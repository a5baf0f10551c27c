"""Tables as text."""

import pytest

from keras_lgmsnet.tables import (
    RankedCell,
    comparison_cells,
    latex_table,
    latex_text,
    markdown_table,
    p_cell,
    score_cell,
)

pytestmark = pytest.mark.no_backend


def test_markdown_columns_line_up() -> None:
    assert markdown_table(["", "a|b"], [["IoU, %", "83.46"], ["F1", "–"]]).splitlines() == [
        "|        | a\\|b  |",
        "| ------ | ----- |",
        "| IoU, % | 83.46 |",
        "| F1     | –     |",
    ]


def test_latex() -> None:
    text = latex_table(["", "run_1", "b"], [["IoU, %", "-1.5** [-2.0, 3.0]", "–"]], "A & b.")
    assert text.splitlines() == [
        r"\begin{table}",
        r"\centering",
        r"\caption{A \& b.}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r" & run\_1 & b \\",
        r"\midrule",
        r"IoU, \% & $-$1.5** [$-$2.0, 3.0] & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("small (< 5 %)", r"small ($<$ 5 \%)"),
        ("5–20, ≥ 20, 2 × 3", r"5--20, $\geq$ 20, 2 $\times$ 3"),
        ("t-test, ISIC-2018", "t-test, ISIC-2018"),
        (
            "a\\b {c} ~d^e #$",
            r"a\textbackslash{}b \{c\} \textasciitilde{}d\textasciicircum{}e \#\$",
        ),
    ],
)
def test_latex_text(text, latex) -> None:
    assert latex_text(text) == latex


def test_cells_of_scores() -> None:
    assert score_cell("Dice, %", 0.841, (0.8, 0.873)) == "84.10 [80.00, 87.30]"
    assert score_cell("HD95, mm", 6.2149, mark="*") == "6.21*"
    assert score_cell("Dice, %", None, None) == "–"
    assert [p_cell(p) for p in (None, 0.0009, 0.0404)] == ["–", "< 0.001", "0.040"]


def test_comparison_of_scores_and_of_regions() -> None:
    compared = {
        "mean": 0.9,
        "other_mean": 0.8,
        "difference": 0.1,
        "interval": None,
        "wilcoxon_p": 0.001,
        "t_test_p": None,
        "mark": "**",
    }
    header, rows = comparison_cells(("a", "b"), {"IoU, %": compared, "HD95, mm": compared})
    assert header == ["", "a", "b", "difference", "Wilcoxon p", "t-test p"]
    assert rows == [
        ["IoU, %", "90.00", "80.00", "10.00**", "0.001", "–"],
        ["HD95, mm", "0.90", "0.80", "0.10**", "0.001", "–"],
    ]
    header, rows = comparison_cells(("a", "b"), {"liver": compared}, "Dice, %")
    assert header[0] == "Dice, %"
    assert rows == [["liver", "90.00", "80.00", "10.00**", "0.001", "–"]]


@pytest.mark.parametrize(
    ("cell", "markdown", "latex"),
    [
        (RankedCell("73.40 ± 2.00", 1), "**73.40 ± 2.00**", r"\textbf{73.40 $\pm$ 2.00}"),
        (RankedCell("5", 2, "*"), "<u>5</u> *", r"\underline{5}$^{*}$"),
        (RankedCell("5", 3, "**"), "5 **", r"5$^{**}$"),
        (RankedCell("a_b*|<c>"), r"a\_b\*\|\<c>", r"a\_b*|$<$c$>$"),
    ],
)
def test_ranks_and_marks(cell, markdown, latex) -> None:
    (_, _, line) = markdown_table([""], [[cell]]).splitlines()
    assert line == f"| {markdown} |"
    assert latex in latex_table([""], [[cell]], "").splitlines()[7]
