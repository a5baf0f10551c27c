"""How redundant the channels of each stage are, drawn (paper, Fig. 1c)."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from keras_lgmsnet.drawing.diagrams import tick_whole_numbers
from keras_lgmsnet.figures.captioned import CaptionedFigure
from keras_lgmsnet.figures.features import merge_stages
from keras_lgmsnet.figures.redundancy import ENERGY, Redundancy
from keras_lgmsnet.figures.style import (
    COLORS,
    FONT_SIZE,
    WIDTH,
    in_style,
    looks,
    plain,
    style_diagram,
)

# For each run's name what `channel_redundancy` returned; runs may have other stages, and channels.
Redundancies = Mapping[str, Mapping[str, Redundancy]]


def redundancy_figure(
    redundancies: Redundancies, networks: Mapping[str, str], origin: str
) -> CaptionedFigure:
    """Return the figure of the components that each stage needs.

    Args:
        redundancies: What was measured.
        networks: For each run's name its network, in words.
        origin: Some sentences that say what features were measured.
    """
    return CaptionedFigure(
        draw_redundancy(redundancies),
        f"Bars: least number of singular values, printed above, that hold {100 * ENERGY:.0f} % of "
        "the energy of a stage's features, in percent of its channels; fewer means more "
        "redundancy. Rows of the decomposed matrix are the pixels of all images, columns are "
        "channels, each minus its mean. Diamonds: the same of each image alone, averaged; a stage "
        f"of fewer pixels than channels cannot reach 100 %. {origin}",
        redundancy_rows(redundancies, networks),
    )


def redundancy_rows(
    redundancies: Redundancies, networks: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the numbers of each run and stage.

    Args:
        redundancies: What was measured.
        networks: For each run's name its network, in words.
    """
    return [
        {
            "run": run,
            "network": networks[run],
            "stage": stage,
            "channels": redundancy.num_channels,
            "components_needed": redundancy.components_needed,
            "share_needed": redundancy.components_needed / redundancy.num_channels,
            "effective_rank": redundancy.effective_rank,
            "components_needed_per_image": redundancy.per_image.mean(),
            "standard_deviation": redundancy.per_image.std(),
            "images": len(redundancy.per_image),
        }
        for run, stages in redundancies.items()
        for stage, redundancy in stages.items()
    ]


def spectra_figure(redundancies: Redundancies, origin: str) -> CaptionedFigure:
    """Return the figure of the singular values of each stage.

    Args:
        redundancies: What was measured.
        origin: Some sentences that say what features were measured.
    """
    return CaptionedFigure(
        draw_spectra(redundancies),
        "Singular values of each stage's features, by the largest; dots: the number at which "
        f"{100 * ENERGY:.0f} % of the energy, their sum of squares, is reached. {origin}",
        [
            {"run": run, "stage": stage, "number": number, "energy_share": share}
            for run, stages in redundancies.items()
            for stage, redundancy in stages.items()
            for number, share in enumerate(redundancy.energy.tolist(), start=1)
        ],
    )


@in_style
def draw_redundancy(redundancies: Redundancies) -> Figure:
    """Draw the components needed in each stage, by its channels, a bar for each run that has it."""
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.subplots()
    draw_diamonds = functools.partial(
        axes.scatter,
        marker="D",
        s=14,
        facecolor="white",
        edgecolor="black",
        linewidth=0.8,
        zorder=3,
    )
    by_stage = _by_stage(redundancies)
    width = 0.8 / max(map(len, by_stage.values()))
    for run, color in zip(redundancies, COLORS, strict=False):
        x, rows = [], []
        for tick, stage_rows in enumerate(by_stage.values()):
            if run in stage_rows:
                place = list(stage_rows).index(run) - (len(stage_rows) - 1) / 2
                x.append(tick + place * width)
                rows.append(stage_rows[run])
        needed = np.array([row.components_needed / row.num_channels for row in rows])
        means = np.array([row.per_image.mean() / row.num_channels for row in rows])
        axes.bar(np.array(x), 100 * needed, 0.92 * width, color=color, label=plain(run))
        draw_diamonds(x, 100 * means)
        # Above the diamond, too, which can be higher than the bar.
        tops = 100 * np.maximum(needed, means) + 2
        for row, middle, top in zip(rows, x, tops, strict=True):
            count = str(row.components_needed)
            axes.text(middle, top, count, ha="center", va="bottom", fontsize=FONT_SIZE - 1)
    diamonds = draw_diamonds([], [], label="mean of single images")
    names = [f"{plain(stage)}\n{_tell_channels(rows)}" for stage, rows in by_stage.items()]
    axes.set_xticks(range(len(names)), names, rotation=0 if len(names) <= 10 else 90)
    axes.set(xlabel="Stage and number of its channels, by run where they differ", ylim=(0, 108))
    axes.set(ylabel=f"Components for {100 * ENERGY:.0f} % of\nthe energy, % of the channels")
    style_diagram(axes)
    axes.grid(visible=False, axis="x")
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda index: handles[index] is diamonds)  # runs first
    figure.legend(
        [handles[index] for index in order],
        [names[index] for index in order],
        loc="outside upper center",
        ncols=3,
        frameon=False,
    )
    return figure


@in_style
def draw_spectra(redundancies: Redundancies) -> Figure:
    """Draw each stage's singular values, as shares of the largest, a line for each run."""
    by_stage = _by_stage(redundancies)
    columns = min(3, len(by_stage))
    rows = math.ceil(len(by_stage) / columns)
    figure = Figure(figsize=(WIDTH, 1.7 * rows + 0.7), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    energies = [row.energy for stage_rows in by_stage.values() for row in stage_rows.values()]
    ends = [math.sqrt(energy[-1] / energy[0]) for energy in energies if energy[-1] > 0]
    lowest = max(1e-4, 0.7 * min(ends, default=1e-4))
    look_of_run = dict(zip(redundancies, looks(), strict=False))
    for axes in grid.flat[len(by_stage) :]:
        axes.set_visible(False)
    for axes, (stage, stage_rows) in zip(grid.flat, by_stage.items(), strict=False):
        for run, redundancy in stage_rows.items():
            needed = redundancy.components_needed
            if not needed:
                continue  # constant features have no singular values to draw
            color, line = look_of_run[run]
            values = np.sqrt(redundancy.energy / redundancy.energy[0])
            numbers = np.arange(1, len(values) + 1)
            axes.plot(numbers, values, color=color, linestyle=line)
            axes.plot(needed, values[needed - 1], marker="o", color=color, markersize=5)
        most = max(redundancy.num_channels for redundancy in stage_rows.values())
        axes.set(title=f"{plain(stage)}, {_tell_channels(stage_rows)} channels")
        axes.set(yscale="log", ylim=(lowest, 1.5), xlim=(0, most + 1))
        tick_whole_numbers(axes.xaxis)
        style_diagram(axes)
    reached = f"dot: {100 * ENERGY:.0f} % of the energy reached"
    figure.supxlabel(f"Number of the singular value ({reached})", fontsize=FONT_SIZE)
    figure.supylabel("Singular value / largest", fontsize=FONT_SIZE)
    handles = [
        Line2D([], [], color=color, linestyle=line, marker="o", markersize=5, label=plain(run))
        for run, (color, line) in look_of_run.items()
        if redundancies[run]  # a run without stages keeps its place in the colours only
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
    return figure


def _by_stage(redundancies: Redundancies) -> dict[str, dict[str, Redundancy]]:
    """Return for each stage, in the order of the data, what was measured of the runs that have it.

    They stand in the runs' order, by their names.
    """
    return {
        stage: {run: rows[stage] for run, rows in redundancies.items() if stage in rows}
        for stage in merge_stages(map(list, redundancies.values()))
    }


def _tell_channels(rows: Mapping[str, Redundancy]) -> str:
    """Return a stage's number of channels; where those of a few runs differ, each in their order.

    Of more runs, the least and the most, since there is no room for all.
    """
    counts = [row.num_channels for row in rows.values()]
    if len(set(counts)) == 1:
        return str(counts[0])
    return " / ".join(map(str, counts)) if len(counts) <= 3 else f"{min(counts)} to {max(counts)}"
