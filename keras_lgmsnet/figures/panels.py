"""Images beside the truth and predictions (paper, Fig. 5)."""

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from keras_lgmsnet.data.images import Examples
from keras_lgmsnet.drawing.outlines import PREDICTION_COLOR, TRUTH_COLOR, outlined
from keras_lgmsnet.figures.captioned import CaptionedFigure
from keras_lgmsnet.figures.pictures import Cases, picture_grid, show
from keras_lgmsnet.figures.style import in_style, plain

_COLUMNS = 5  # at most


def panels_figure(
    cases: Cases,
    predictions: Mapping[str, np.ndarray],
    ious: Mapping[str, np.ndarray],
    *,
    dataset: str,
    size: str,
) -> CaptionedFigure:
    """Return the figure of images beside the truth and the predictions.

    Args:
        cases: The images.
        predictions: For each run's name its masks, shape `(images, height, width, num_classes)`.
        ious: For each run's name the IoU of every image.
        dataset: What to call the dataset that they are of.
        size: To which images were resized, in words.
    """
    return CaptionedFigure(
        draw_panels(cases.examples, cases.labels, predictions, ious),
        f"Images of {dataset}, truth and predictions at a probability of 0.5 and {size}, shown in "
        f"their original proportions. {cases.choice}".strip(),
        [
            {"id": id_, "rule": rule, **{f"iou {run}": ious[run][index] for run in ious}}
            for index, (id_, rule) in enumerate(zip(cases.examples.ids, cases.rules, strict=True))
        ],
    )


@in_style
def draw_panels(
    examples: Examples,
    labels: Sequence[str],
    predictions: Mapping[str, np.ndarray],
    ious: Mapping[str, np.ndarray],
) -> Figure:
    """Draw images beside the truth and the predictions of one run or more, outlined.

    Images are shown in their original proportions, those of many runs in several rows.

    Args:
        examples: The images.
        labels: What to write beside each image.
        predictions: For each run's name its masks, shape `(images, height, width, num_classes)`;
            runs may have masks of other sides than the images.
        ious: For each run's name the IoU of every image.
    """
    columns = min(_COLUMNS, 2 + len(predictions))
    rows = math.ceil((2 + len(predictions)) / columns)
    figure, grid = picture_grid(examples, columns, rows, between=0.3 + 0.1 * (rows > 1), below=0.4)
    for index, label in enumerate(labels):
        panels = grid[index * rows : (index + 1) * rows].ravel()
        image, mask = examples.images[index], examples.segmentation_masks[index]
        nothing = np.zeros_like(mask)
        shown = [
            ("image", outlined(image, nothing), ""),
            ("truth", outlined(image, mask), "" if mask.any() else "no lesion"),
        ]
        for run, masks in predictions.items():
            drawn = outlined(image, mask, masks[index])
            shown.append((run, drawn, f"IoU {ious[run][index]:.3f}"))
        for panel, (title, picture, below) in zip(panels, shown, strict=False):
            heading = textwrap.fill(title, 110 // columns)
            # In one row, columns have their names; in several, every picture needs its own.
            show(panel, picture, examples, index, heading if index == 0 or rows > 1 else "")
            panel.set_xlabel(below)
        for panel in panels[len(shown) :]:
            panel.set_visible(False)
        panels[0].set_ylabel(plain(label))
    handles = [
        Line2D([], [], color=color, linewidth=3, label=label)
        for color, label in ((TRUTH_COLOR, "truth"), (PREDICTION_COLOR, "prediction"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure
