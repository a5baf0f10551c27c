"""A figure with its caption and the numbers behind it, and the files that they are written to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from keras_lgmsnet.figures.style import DPI, in_style
from keras_lgmsnet.files.writing import write_csv


class CaptionedFigure(NamedTuple):
    """A figure, its caption, and the numbers behind it.

    Args:
        figure: The figure.
        caption: Some sentences that say how it was made.
        rows: The numbers, rows of the same keys; none where the picture says all.
    """

    figure: Figure
    caption: str
    rows: list[dict[str, Any]]


@in_style
def write_figures(directory: Path, figures: Mapping[str, CaptionedFigure]) -> None:
    """Write figures as PNG and PDF, and their numbers as CSV, named as the mapping does."""
    for name, (figure, _, rows) in figures.items():
        figure.savefig(directory / f"{name}.png", dpi=DPI)
        # Without a date, the same figure is the same file.
        figure.savefig(directory / f"{name}.pdf", dpi=300, metadata={"CreationDate": None})
        if rows:
            write_csv(directory / f"{name}.csv", rows)
