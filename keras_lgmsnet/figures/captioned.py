"""A figure with its caption and the numbers behind it, and the files that they are written to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
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


@in_style
def pixels_of(figure: Figure) -> np.ndarray:
    """Return a figure as 8-bit RGB, shape `(height, width, 3)`, as its PNG has it."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
