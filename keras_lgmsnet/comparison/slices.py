"""The same slices of volumes as all networks segment them (paper, Fig. 6)."""

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from keras_lgmsnet.data.volumes import VolumeSource
from keras_lgmsnet.drawing.volumes import SegmentedVolume, draw_slice, label_color
from keras_lgmsnet.figures.captioned import CaptionedFigure
from keras_lgmsnet.figures.style import WIDTH, in_style, plain

_COLUMNS = 5  # at most


def slices_figure(
    volumes: VolumeSource,
    window: tuple[float, float] | None,
    rules: Mapping[str, str],
    predictions: Mapping[str, Mapping[str, np.ndarray]],
    scores: Mapping[str, Mapping[str, float]],
    origin: str,
) -> CaptionedFigure:
    """Return the figure of a slice of each volume beside the truth and the predictions.

    Args:
        volumes: The dataset.
        window: The values shown black and white, as `SegmentedVolume` takes them.
        rules: What each volume was chosen as, by its id.
        predictions: For each label the predicted labels of each volume, on its own grid, by its id.
        scores: For each label the mean Dice of each volume that has one, by its id.
        origin: What the volumes are of, and how they were chosen.
    """
    rows = []
    pictures: list[list[np.ndarray]] = []
    for id_ in rules:
        example = volumes.read(id_)
        nothing = np.zeros_like(example.segmentation_mask)
        truth = SegmentedVolume.of_example(example, nothing, window)
        area = truth.segmentation_mask.astype(bool).sum((0, 1))
        index = int(area.argmax()) if area.any() else len(area) // 2
        bare = SegmentedVolume(
            truth.image, _background(truth), _background(truth), truth.spacing, window
        )
        pictures.append([draw_slice(bare, index), draw_slice(truth, index)])
        for found in predictions.values():
            segmented = SegmentedVolume.of_example(example, found[id_], window)
            pictures[-1].append(draw_slice(segmented, index))
        rows.append(
            {
                "id": id_,
                "rule": rules[id_],
                "slice": index + 1,
                **{f"dice {label}": scores[label].get(id_) for label in predictions},
            }
        )
    return CaptionedFigure(
        _draw(
            pictures,
            list(predictions),
            [f"{row['rule']}\n{row['id']}".strip() for row in rows],
            [[scores[label].get(id_) for label in predictions] for id_ in rules],
            list(volumes.labels.values())[1:],
        ),
        "The axial slice of each volume in which the truth is largest, the patient's right on the "
        "left. Tinted is the truth, outlined the prediction, in the colour of the label; the "
        f"Dice is the mean over the labels of the whole volume. Volumes of {origin}",
        rows,
    )


def _background(volume: SegmentedVolume) -> np.ndarray:
    """Return labels of a volume's shape that are all background."""
    return np.zeros_like(volume.segmentation_mask)


@in_style
def _draw(
    pictures: Sequence[Sequence[np.ndarray]],
    labels: Sequence[str],
    cases: Sequence[str],
    dice: Sequence[Sequence[float | None]],
    regions: Sequence[str],
) -> Figure:
    """Draw pictures in rows, a case after another."""
    titles = ["image", "truth", *labels]
    columns = min(_COLUMNS, len(titles))
    lines = math.ceil(len(titles) / columns)
    panel = (WIDTH - 0.42) / columns - 0.08
    shapes = [row[0].shape[0] / row[0].shape[1] for row in pictures for _ in range(lines)]
    height = sum(panel * shape + 0.4 for shape in shapes) + 0.4
    figure = Figure(figsize=(WIDTH, height), layout="compressed")
    grid = figure.subplots(len(shapes), columns, squeeze=False, height_ratios=shapes)
    for number, row in enumerate(pictures):
        panels = grid[number * lines : (number + 1) * lines].ravel()
        below = ["", "", *("no Dice" if d is None else f"Dice {d:.3f}" for d in dice[number])]
        for axes, title, picture, text in zip(panels, titles, row, below, strict=False):
            axes.imshow(picture)
            axes.set(xticks=[], yticks=[], xlabel=text)
            axes.set_title(plain(textwrap.fill(title, 110 // columns)), pad=3)
            axes.spines[:].set_visible(False)
        for axes in panels[len(titles) :]:
            axes.set_visible(False)
        panels[0].set_ylabel(plain(cases[number]))
    handles = [
        Line2D([], [], color=label_color(number), linewidth=3, label=plain(name))
        for number, name in enumerate(regions, start=1)
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(5, len(handles)), frameon=False
    )
    return figure
