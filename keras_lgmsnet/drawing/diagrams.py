"""The look that diagrams share, in figures and in reports."""

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator


def make_figure(title: str, xlabel: str, height: float = 3.0) -> tuple[Figure, Axes]:
    """Return a figure with one diagram in it; its height is in inches."""
    figure = Figure(figsize=(4.4, height), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=xlabel)
    style_axes(axes)
    return figure, axes


def style_axes(axes: Axes) -> None:
    """Give axes the look of all diagrams: a light grid, and no frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e7eb", linewidth=0.6)
    axes.set_axisbelow(True)


def tick_whole_numbers(axis: Axis) -> None:
    """Put the ticks of a linear axis at whole numbers only."""
    locator = AutoLocator()
    locator.set_params(integer=True)
    axis.set_major_locator(locator)
