"""Where the stages of a network are active, drawn over images (paper, Fig. 1d and 5)."""

import math
from collections.abc import Mapping, Sequence

import cv2
import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from keras_lgmsnet.data.images import Examples
from keras_lgmsnet.drawing.outlines import outlined
from keras_lgmsnet.figures.captioned import CaptionedFigure
from keras_lgmsnet.figures.features import stage_features
from keras_lgmsnet.figures.pictures import Cases, picture_grid, show
from keras_lgmsnet.figures.style import in_style, plain
from keras_lgmsnet.run import Run

_HEAT = "inferno"
_HEAT_OPACITY = 0.6


def stage_maps_figure(name: str, run: Run, cases: Cases, stages: Sequence[str]) -> CaptionedFigure:
    """Return the figure of where the stages of a run's network are active.

    Args:
        name: What to call the run.
        run: The run.
        cases: The images.
        stages: Names of layers of the network.
    """
    maps = [
        {stage: activation_map(values) for stage, values in features.items()}
        for features in stage_features(run, cases.examples.images, stages)
    ]
    return CaptionedFigure(
        draw_stage_maps(cases.examples, cases.labels, maps),
        f"{name}: mean of the absolute activations over each stage's channels, from its least to "
        "its greatest value in each map, enlarged linearly over the image in grey, at "
        f"{100 * _HEAT_OPACITY:.0f} % opacity; outline: truth.",
        rows=[],
    )


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


@in_style
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
    """Return an image in grey with an activation map and the outline of its mask over it."""
    enlarged = cv2.resize(map_.astype("float32"), grey.shape[1::-1])
    heat = 255 * matplotlib.colormaps[_HEAT](enlarged)[..., :3]
    blended = _HEAT_OPACITY * heat + (1 - _HEAT_OPACITY) * grey
    return outlined(np.rint(blended).astype("uint8"), mask)
