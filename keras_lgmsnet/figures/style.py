"""The look of the paper's figures."""

import itertools
from collections.abc import Iterator

import matplotlib
from matplotlib.axes import Axes
from matplotlib.typing import LineStyleType

from keras_lgmsnet.drawing.diagrams import style_axes

# Okabe and Ito's colours, which the colour-blind tell apart, and lines that do without colour.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
LINES: tuple[LineStyleType, ...] = ("-", "--", "-.", ":")

WIDTH = 7.2  # inches: two columns of a journal's page
FONT_SIZE = 8
DPI = 200

# Decorates what draws or writes figures.
in_style = matplotlib.rc_context(
    {"font.size": FONT_SIZE, "axes.titlesize": FONT_SIZE, "pdf.fonttype": 42}
)


def looks() -> Iterator[tuple[str, LineStyleType]]:
    """Yield colours and line styles, each pair once before any is repeated."""
    for number in itertools.count():
        yield COLORS[number % len(COLORS)], LINES[number % len(LINES)]


def style_diagram(axes: Axes) -> None:
    """Give axes the look of all diagrams, with ticks in the figures' size of print."""
    style_axes(axes)
    axes.tick_params(labelsize=FONT_SIZE)


def plain(text: str) -> str:
    """Return the text that Matplotlib prints as given, not as a formula."""
    return text.replace("$", r"\$")
