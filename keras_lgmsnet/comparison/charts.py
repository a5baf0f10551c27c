"""Charts of a comparison: score against cost (paper, Fig. 1b and 4), and ablations (Fig. 7)."""

import math
import statistics
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from keras_lgmsnet.comparison.changes import Change
from keras_lgmsnet.comparison.contestants import ScoredRun
from keras_lgmsnet.comparison.placement import Box, nearest, place_labels
from keras_lgmsnet.comparison.standings import (
    Standing,
    headline,
    named,
    scored_on,
    standings,
)
from keras_lgmsnet.comparison.tables import Comparison
from keras_lgmsnet.figures.captioned import CaptionedFigure
from keras_lgmsnet.figures.style import COLORS, WIDTH, in_style, plain, style_diagram

_RADIUS = 12.0  # points: of the largest bubble
_LINE = 24  # characters of a label in one line


def draw_charts(comparison: Comparison) -> dict[str, CaptionedFigure]:
    """Draw the charts of a comparison, for each dataset one of each kind.

    - `score_by_parameters`: the score against the parameters of the network, bubbles as large as
      its multiply-adds (paper, Fig. 1b);
    - `score_by_speed`: the same against its speed, where that is known of two labels (Fig. 4);
    - `changes`: how much one changed argument changes the score, where the comparison has such
      pairs (Fig. 7, Table 6).

    Where there are several datasets, the names end in theirs. The score is the IoU of images, the
    mean Dice of volumes.

    Args:
        comparison: The runs.

    Returns:
        The figures by name.

    Example:
    ```python
    draw_charts(comparison)["score_by_parameters"].figure.savefig("chart.png")
    ```
    """
    figures = {}
    every = comparison.datasets
    for dataset in every:
        found = standings(comparison, dataset)
        if not found:
            continue
        figures[named("score_by_parameters", dataset, every)] = _chart(
            comparison,
            dataset,
            found,
            lambda each: each.parameters / 1e6,
            "Parameters, million",
            "parameters of its network",
        )
        timed = [each for each in found if each.speed is not None]
        if len(timed) > 1:
            unit = f"{comparison.kind.name.capitalize()} a second"
            figures[named("score_by_speed", dataset, every)] = _chart(
                comparison, dataset, timed, lambda each: each.speed or 0.0, unit, unit.lower()
            )
        if (changes := _changes(comparison, dataset)) is not None:
            figures[named("changes", dataset, every)] = changes
    return figures


def colors_of(comparison: Comparison) -> dict[str, str]:
    """Return the colour of each label, the same in all charts; beyond seven they begin anew."""
    return {
        each.label: COLORS[number % len(COLORS)]
        for number, each in enumerate(comparison.contestants)
    }


def _chart(
    comparison: Comparison,
    dataset: str,
    found: Sequence[Standing],
    position: Callable[[Standing], float],
    xlabel: str,
    words: str,
) -> CaptionedFigure:
    """Return the chart of the score against something."""
    run = next(each.on(dataset) for each in comparison.contestants if each.on(dataset))[0]
    score = headline(run.kind)
    splits = max(len(each.scores) for each in found)
    colors = colors_of(comparison)
    drawn = None
    height = 3.6
    while drawn is None:  # a fuller chart needs more room
        drawn = _draw_bubbles(found, position, xlabel, f"{score}, %", colors, height)
        height *= 1.3
    caption = (
        f"{score} of the {scored_on(run)} against the {words}; the higher and the "
        f"farther {'left' if 'parameters' in words else 'right'}, the better. A bubble's width "
        f"grows with the fourth root of the multiply-adds for one {run.kind.example}"
        f"{'' if run.kind.rank == 2 else ' patch'}. "
    )
    if splits > 1:
        fewer = (
            " (fewer where the table says so)" if len({len(x.scores) for x in found}) > 1 else ""
        )
        caption += (
            f"Bubbles: mean over {splits} splits{fewer}; lines: ± their sample standard deviation."
        )
    else:
        caption += "Of one split: how far chance moves a bubble is not known."
    rows = [
        {
            "network": each.label,
            "dataset": dataset,
            "score": score,
            "mean": each.mean,
            "standard_deviation": each.deviation,
            "splits": len(each.scores),
            "parameters": each.parameters,
            "multiply_adds": each.multiply_adds,
            "speed": each.speed,
        }
        for each in found
    ]
    return CaptionedFigure(drawn, caption, rows)


@in_style
def _draw_bubbles(
    found: Sequence[Standing],
    position: Callable[[Standing], float],
    xlabel: str,
    ylabel: str,
    colors: Mapping[str, str],
    height: float,
) -> Figure | None:
    """Draw bubbles with their labels; return `None` where the labels do not fit in."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained", dpi=72)  # pixels are points
    axes = figure.subplots()
    places = np.array([[position(each), 100 * each.mean] for each in found])
    deviations = 100 * np.array([each.deviation or 0.0 for each in found])
    most = max(each.multiply_adds for each in found)
    radii = np.array([_radius(each.multiply_adds, most) for each in found])
    for each, (x, y), deviation, radius in zip(found, places, deviations, radii, strict=True):
        color = colors[each.label]
        if each.deviation is not None:
            axes.errorbar(x, y, deviation, color="#374151", capsize=2, linewidth=0.9, zorder=4)
        axes.scatter(x, y, (2 * radius) ** 2, color=color, alpha=0.8, edgecolor="white", zorder=3)
        axes.plot(x, y, ".", color="black", markersize=2, zorder=4)
    axes.set(xscale="log", xlabel=xlabel, ylabel=ylabel)
    axes.set_xlim(*_limits_log(places[:, 0]))
    _tick_round_numbers(axes)
    low, high = (places[:, 1] - deviations).min(), (places[:, 1] + deviations).max()
    room = max(0.18 * (high - low), 0.5)
    axes.set_ylim(low - room, high + room)
    style_diagram(axes)
    sizes = _round_numbers(min(each.multiply_adds for each in found), most)
    handles = [
        axes.scatter(
            [],
            [],
            (2 * _radius(size, most)) ** 2,
            color="#9ca3af",
            edgecolor="white",
            label=_giga(size),
        )
        for size in sizes
    ]
    figure.legend(
        handles=handles,
        title="Multiply-adds",
        loc="outside right upper",
        frameon=False,
        labelspacing=2,
        handletextpad=1.5,
        borderpad=1.5,
    )
    return figure if _write_labels(figure, axes, found, places, deviations, radii) else None


def _write_labels(
    figure: Figure,
    axes: Axes,
    found: Sequence[Standing],
    places: np.ndarray,
    deviations: np.ndarray,
    radii: np.ndarray,
) -> bool:
    """Write each bubble's label beside it; return whether there is room for all."""
    texts = [
        axes.text(0, 0, plain(textwrap.fill(each.label, _LINE)), zorder=6, transform=None)
        for each in found
    ]
    for text in texts:
        text.set_in_layout(False)
    figure.draw_without_rendering()
    sizes = np.array([(box.width, box.height) for box in (t.get_window_extent() for t in texts)])
    frame = axes.get_window_extent()
    points = axes.transData.transform(places)
    spread = np.stack([np.zeros_like(deviations), deviations], axis=1)
    lows, highs = (axes.transData.transform(places + sign * spread)[:, 1] for sign in (-1, 1))
    bars = [
        Box(x - 3, low, x + 3, high) for (x, _), low, high in zip(points, lows, highs, strict=True)
    ]
    boxes = place_labels(
        points,
        radii,
        sizes,
        Box(frame.x0 + 2, frame.y0 + 2, frame.x1 - 2, frame.y1 - 2),
        bars,
    )
    for text in texts:
        text.remove()
    if boxes is None:
        return False
    for each, place, point, box, radius in zip(found, places, points, boxes, radii, strict=True):
        end = nearest(box, point)
        away = end - point
        distance = float(np.linalg.norm(away))
        if distance > radius + 5:
            start = point + away * radius / distance
            axes.annotate(
                "",
                xy=place,
                xytext=tuple(end - point),
                xycoords="data",
                textcoords="offset points",
                arrowprops={
                    "arrowstyle": "-",
                    "color": "#6b7280",
                    "linewidth": 0.6,
                    "shrinkA": 0,
                    "shrinkB": float(np.linalg.norm(start - point)),
                },
                zorder=1,
            ).set_in_layout(False)
        axes.annotate(
            plain(textwrap.fill(each.label, _LINE)),
            xy=place,
            xytext=(box.left - point[0], (box.bottom + box.top) / 2 - point[1]),
            textcoords="offset points",
            va="center",
            zorder=6,
        ).set_in_layout(False)
    return True


def _radius(multiply_adds: float, most: float) -> float:
    """Return a bubble's radius in points: networks differ a thousandfold, bubbles must not."""
    return _RADIUS * (multiply_adds / most) ** 0.25


def _limits_log(values: np.ndarray) -> tuple[float, float]:
    low, high = np.log10(values.min()), np.log10(values.max())
    room = max(0.14 * (high - low), 0.12)
    return 10 ** (low - room), 10 ** (high + room)


def _tick_round_numbers(axes: Axes) -> None:
    """Put the ticks of the logarithmic axis at round numbers."""
    axes.xaxis.set_major_locator(FixedLocator(_round_numbers(*axes.get_xlim(), most=9)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _round_numbers(low: float, high: float, most: int = 3) -> list[float]:
    """Return some numbers of one digit from a range, or its middle where it has none."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        numbers = [
            digit * 10.0**exponent
            for exponent in exponents
            for digit in digits
            if low <= digit * 10.0**exponent <= high
        ]
        if len(numbers) <= most:
            break
    if not numbers:
        return [float(f"{math.sqrt(low * high):.2g}")]
    return numbers[:: math.ceil(len(numbers) / most)]


def _giga(multiply_adds: float) -> str:
    return f"{multiply_adds / 1e9:g} G" if multiply_adds >= 1e8 else f"{multiply_adds / 1e6:g} M"


def _changes(comparison: Comparison, dataset: str) -> CaptionedFigure | None:
    """Return the figure of what changed arguments change, or `None` where nothing was changed."""
    runs = {each.label: each.on(dataset) for each in comparison.contestants}
    rows = []
    for change in comparison.changes:
        row = _change_row(change, runs[change.label], runs[change.base])
        if row is not None:
            rows.append({"dataset": dataset, **row})
    if not rows:
        return None
    run = runs[rows[0]["network"]][0]
    score = headline(run.kind)
    caption = (
        f"What one changed argument changes, on the {scored_on(run)}. Left: {score} of the network "
        "with it (dot) and of the one it was changed in (line). Right: the difference relative to "
        "that one's score. Both over the splits that the two have in common; thin lines: ± the "
        "sample standard deviation over the splits, where there are two or more."
    )
    return CaptionedFigure(_draw_changes(rows, score, colors_of(comparison)), caption, rows)


def _change_row(
    change: Change, runs: Sequence[ScoredRun], bases: Sequence[ScoredRun]
) -> dict[str, Any] | None:
    """Return the numbers of a change over the splits in common; `None` without any."""
    by_split = {run.split: run.scores[headline(run.kind)] for run in bases}
    pairs = [
        (score, base)
        for run in runs
        if (score := run.scores[headline(run.kind)]) is not None
        and (base := by_split.get(run.split))
    ]
    if not pairs:
        return None
    mean, base_mean = (statistics.mean(values) for values in zip(*pairs, strict=True))
    relative = [(score - base) / base for score, base in pairs]
    several = len(pairs) > 1
    return {
        "network": change.label,
        "base": change.base,
        "argument": change.argument,
        "value": change.value,
        "base_value": change.base_value,
        "splits": len(pairs),
        "mean": mean,
        "standard_deviation": statistics.stdev(score for score, _ in pairs) if several else None,
        "base_mean": base_mean,
        "relative": (mean - base_mean) / base_mean,
        "relative_standard_deviation": statistics.stdev(relative) if several else None,
    }


@in_style
def _draw_changes(
    rows: Sequence[Mapping[str, Any]], score: str, colors: Mapping[str, str]
) -> Figure:
    """Draw a row for each change: the two scores, and a bar of the relative difference."""
    figure = Figure(figsize=(WIDTH, 1.1 + 0.55 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(rows):
        color = colors[row["network"]]
        deviation = row["standard_deviation"]
        left.errorbar(
            100 * row["mean"],
            place,
            xerr=None if deviation is None else 100 * deviation,
            fmt="o",
            color=color,
            capsize=2,
            linewidth=1,
        )
        base = 100 * row["base_mean"]
        left.plot([base, base], [place - 0.3, place + 0.3], color="black", linewidth=1.2)
        spread = row["relative_standard_deviation"]
        right.barh(
            place,
            100 * row["relative"],
            0.5,
            color=color,
            xerr=None if spread is None else 100 * spread,
            error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "#6b7280"},
        )
    names = [
        plain(
            textwrap.fill(row["network"], 30)
            + "\n"
            + textwrap.fill(
                f"{row['argument']}: {_value(row['base_value'])} → {_value(row['value'])}", 34
            )
        )
        for row in rows
    ]
    left.set_yticks(range(len(rows)), names)
    left.set(xlabel=f"{score}, % (line: before the change)", ylim=(len(rows) - 0.5, -0.5))
    right.set(xlabel=f"Relative change of {score}, %")
    right.axvline(0, color="black", linewidth=0.8)
    for axes in (left, right):
        style_diagram(axes)
        axes.margins(x=0.15)
    return figure


def _value(value: Any) -> str:
    """Return an argument's value in few characters."""
    return "–".join(map(_value, value)) if isinstance(value, list | tuple) else str(value).lower()
