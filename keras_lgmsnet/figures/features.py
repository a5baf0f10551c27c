"""What the stages of a network make of images."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import cv2
import keras
import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from tqdm.auto import tqdm

from keras_lgmsnet.data.images import Examples, preprocess
from keras_lgmsnet.drawing.outlines import outlined
from keras_lgmsnet.figures.panels import picture_grid, show
from keras_lgmsnet.figures.redundancy import ENERGY, Redundancy
from keras_lgmsnet.figures.style import (
    COLORS,
    FONT_SIZE,
    STYLE,
    WIDTH,
    looks,
    plain,
    style,
)
from keras_lgmsnet.run import Run

# The stages of `LGMSNet2D` that hold its blocks, in the order of the data.
STAGES = (
    *("encoder1", "encoder2", "encoder3", "encoder4", "encoder5"),
    *("decoder5", "decoder4", "decoder3", "decoder2"),
)


_HEAT = "inferno"


HEAT_OPACITY = 0.6


def stage_features(
    run: Run, images: np.ndarray, stages: Sequence[str] = STAGES
) -> Iterator[dict[str, np.ndarray]]:
    """Yield what the stages of a run's network make of each image, one image at a time.

    Args:
        run: The run; its recipe's preprocessing is applied.
        images: 8-bit RGB, shape `(images, height, width, 3)`.
        stages: Names of layers of the network.

    Yields:
        For each stage its output, shape `(height, width, channels)` at the stage's resolution.

    Raises:
        ValueError: If the network has no such layer, or its features are not finite.
    """
    require_stages(run, stages)
    network = run.network
    outputs = {stage: network.get_layer(stage).output for stage in stages}
    features_of = keras.Model(network.input, outputs)
    for image in tqdm(images, desc="Looking into the network", unit="image", disable=None):
        batch = preprocess(image[None], run.recipe.data.preprocessing)
        features = features_of.predict_on_batch(batch)
        yield {stage: np.asarray(features[stage])[0] for stage in stages}


@matplotlib.rc_context(STYLE)
def draw_redundancy(redundancies: Mapping[str, Mapping[str, Redundancy]]) -> Figure:
    """Draw the components needed in each stage, by its channels, a bar for each run.

    Args:
        redundancies: For each run's name what `channel_redundancy` returned, of the same stages.
    """
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.subplots()
    stages = list(next(iter(redundancies.values())))
    width = 0.8 / len(redundancies)
    for number, (run, color) in enumerate(zip(redundancies, COLORS, strict=False)):
        rows = [redundancies[run][stage] for stage in stages]
        x = np.arange(len(stages)) + (number - (len(redundancies) - 1) / 2) * width
        needed = np.array([row.components_needed / row.num_channels for row in rows])
        means = np.array([row.per_image.mean() / row.num_channels for row in rows])
        axes.bar(x, 100 * needed, 0.92 * width, color=color, label=plain(run))
        look = {"marker": "D", "s": 14, "facecolor": "white", "edgecolor": "black", "zorder": 3}
        axes.scatter(x, 100 * means, linewidth=0.8, **look)
        for row, middle, height in zip(rows, x, 100 * np.maximum(needed, means), strict=True):
            # Above the diamond, too, which can be higher than the bar.
            text = {"ha": "center", "va": "bottom", "fontsize": FONT_SIZE - 1}
            axes.text(middle, height + 2, str(row.components_needed), **text)
    points = axes.scatter([], [], linewidth=0.8, label="mean of single images", **look)
    channels = [redundancies[run][stage].num_channels for stage in stages]
    names = [f"{plain(stage)}\n{count}" for stage, count in zip(stages, channels, strict=True)]
    axes.set_xticks(range(len(stages)), names)
    axes.set(xlabel="Stage and number of its channels", ylim=(0, 108))
    axes.set(ylabel=f"Components for {100 * ENERGY:.0f} % of\nthe energy, % of the channels")
    style(axes)
    axes.grid(visible=False, axis="x")
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda index: handles[index] is points)  # runs first
    figure.legend(
        [handles[index] for index in order],
        [names[index] for index in order],
        loc="outside upper center",
        ncols=3,
        frameon=False,
    )
    return figure


@matplotlib.rc_context(STYLE)
def draw_spectra(redundancies: Mapping[str, Mapping[str, Redundancy]]) -> Figure:
    """Draw each stage's singular values, as shares of the largest, a line for each run.

    Args:
        redundancies: For each run's name what `channel_redundancy` returned, of the same stages.
    """
    stages = list(next(iter(redundancies.values())))
    columns = min(3, len(stages))
    rows = math.ceil(len(stages) / columns)
    figure = Figure(figsize=(WIDTH, 1.7 * rows + 0.7), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    energies = [row.energy for stages_ in redundancies.values() for row in stages_.values()]
    ends = [math.sqrt(energy[-1] / energy[0]) for energy in energies if energy[-1] > 0]
    lowest = max(1e-4, 0.7 * min(ends, default=1e-4))
    for stage, axes in itertools.zip_longest(stages, grid.flat):
        if stage is None:
            axes.set_visible(False)
            continue
        for run, (color, line) in zip(redundancies, looks(), strict=False):
            redundancy = redundancies[run][stage]
            needed = redundancy.components_needed
            if not needed:
                continue  # constant features have no singular values to draw
            values = np.sqrt(redundancy.energy / redundancy.energy[0])
            numbers = np.arange(1, len(values) + 1)
            axes.plot(numbers, values, color=color, linestyle=line)
            axes.plot(needed, values[needed - 1], marker="o", color=color, markersize=5)
        axes.set(title=f"{plain(stage)}, {redundancy.num_channels} channels")
        axes.set(yscale="log", ylim=(lowest, 1.5), xlim=(0, redundancy.num_channels + 1))
        axes.xaxis.get_major_locator().set_params(integer=True)
        style(axes)
    reached = f"dot: {100 * ENERGY:.0f} % of the energy reached"
    figure.supxlabel(f"Number of the singular value ({reached})", fontsize=FONT_SIZE)
    figure.supylabel("Singular value / largest", fontsize=FONT_SIZE)
    handles = [
        Line2D([], [], color=color, linestyle=line, marker="o", markersize=5, label=plain(run))
        for run, (color, line) in zip(redundancies, looks(), strict=False)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
    return figure


def activation_map(features: np.ndarray) -> np.ndarray:
    """Return where a stage is active: mean of the absolute values of its channels, 0 to 1.

    Each map is normalised alone, its least value to 0 and its greatest to 1; one that is the same
    everywhere is 0. So maps tell where a stage is active, not how strongly.

    Args:
        features: Shape `(*sides, channels)`.

    Returns:
        Shape `sides`.
    """
    activation = np.abs(features).mean(axis=-1)
    low, high = activation.min(), activation.max()
    return (activation - low) / (high - low) if high > low else np.zeros_like(activation)


@matplotlib.rc_context(STYLE)
def draw_stage_maps(
    examples: Examples, labels: Sequence[str], maps: Sequence[Mapping[str, np.ndarray]]
) -> Figure:
    """Draw images with the true outline, and the activation maps of the stages over them.

    Maps are enlarged linearly to their image, and images are shown in their original proportions.

    Args:
        examples: The images.
        labels: What to write beside each image.
        maps: For each image and stage what `activation_map` returned.
    """
    stages = list(maps[0])
    columns = min(5, 1 + len(stages))
    rows = math.ceil((1 + len(stages)) / columns)
    figure, grid = picture_grid(examples, columns, rows, between=0.21, below=0.62)
    for index, label in enumerate(labels):
        panels = grid[index * rows : (index + 1) * rows].ravel()
        image, mask = examples.images[index], examples.segmentation_masks[index]
        show(panels[0], outlined(image, mask), examples, index, "image and truth")
        panels[0].set_ylabel(plain(label))
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, axis=-1)
        for panel, (stage, map_) in zip(panels[1:], maps[index].items(), strict=False):
            show(panel, _heat(grey, mask, map_), examples, index, stage)
        for panel in panels[1 + len(stages) :]:
            panel.set_visible(False)
    bar = figure.colorbar(
        ScalarMappable(cmap=_HEAT),
        ax=grid,
        location="bottom",
        aspect=50,
        shrink=0.5,
        ticks=[0, 1],
        label="mean of the absolute activations of a stage's channels, each map on its own scale",
    )
    bar.ax.set_xticklabels(["least", "greatest"])
    return figure


def _heat(grey: np.ndarray, mask: np.ndarray, map_: np.ndarray) -> np.ndarray:
    enlarged = cv2.resize(map_.astype("float32"), grey.shape[1::-1])
    heat = 255 * matplotlib.colormaps[_HEAT](enlarged)[..., :3]
    blended = HEAT_OPACITY * heat + (1 - HEAT_OPACITY) * grey
    return outlined(np.rint(blended).astype("uint8"), mask)


def require_stages(run: Run, stages: Sequence[str]) -> None:
    layers = [layer.name for layer in run.network.layers]
    if not stages:
        raise ValueError(f"There must be at least one stage. Received: {stages!r}")
    if unknown := [stage for stage in stages if stage not in layers]:
        raise ValueError(
            f"Stages must be layers of the network in {run.directory}: {', '.join(layers)}. "
            f"Received: {', '.join(unknown)}"
        )
