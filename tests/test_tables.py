"""Tables as text."""

import pytest

from keras_lgmsnet.tables import latex_table, latex_text, markdown_table

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
