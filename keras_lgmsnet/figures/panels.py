"""Images beside the truth and predictions."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from keras_lgmsnet.data.images import Examples
from keras_lgmsnet.drawing.outlines import PREDICTION_COLOR, TRUTH_COLOR, outlined
from keras_lgmsnet.figures.style import STYLE, WIDTH, plain


@matplotlib.rc_context(STYLE)
def draw_panels(
    examples: Examples,
    labels: Sequence[str],
    predictions: Mapping[str, np.ndarray],
    ious: Mapping[str, np.ndarray],
) -> Figure:
    """Draw images beside the truth and the predictions of one run or more, outlined.

    Images are shown in their original proportions.

    Args:
        examples: The images.
        labels: What to write beside each image.
        predictions: For each run's name its masks, shape `(images, height, width, num_classes)`.
        ious: For each run's name the IoU of every image.
    """
    figure, grid = picture_grid(examples, 2 + len(predictions), 1, between=0.3, below=0.4)
    for index, label in enumerate(labels):
        image, mask = examples.images[index], examples.segmentation_masks[index]
        nothing = np.zeros_like(mask)
        shown = [
            ("image", outlined(image, nothing), ""),
            ("truth", outlined(image, mask), "" if mask.any() else "no lesion"),
        ]
        for run, masks in predictions.items():
            drawn = outlined(image, mask, masks[index])
            shown.append((run, drawn, f"IoU {ious[run][index]:.3f}"))
        for panel, (title, picture, below) in zip(grid[index], shown, strict=True):
            show(panel, picture, examples, index, title if index == 0 else "")
            panel.set_xlabel(below)
        grid[index, 0].set_ylabel(plain(label))
    handles = [
        Line2D([], [], color=color, linewidth=3, label=label)
        for color, label in ((TRUTH_COLOR, "truth"), (PREDICTION_COLOR, "prediction"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def picture_grid(
    examples: Examples, columns: int, rows: int, between: float, below: float
) -> tuple[Figure, np.ndarray]:
    """Return axes for pictures, `rows` for each image, as high as its proportions ask for.

    Args:
        examples: The images.
        columns: Pictures side by side.
        rows: Rows of pictures for each image.
        between: Inches that words take between two rows.
        below: Inches that words take below the last row.
    """
    heights = [height / width for height, width in examples.original_sizes for _ in range(rows)]
    panel = (WIDTH - 0.42) / columns - 0.08
    size = (WIDTH, sum(panel * height + between for height in heights) + below)
    figure = Figure(figsize=size, layout="compressed")
    grid = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    return figure, grid


def show(panel: Axes, picture: np.ndarray, examples: Examples, index: int, title: str) -> None:
    height, width = examples.original_sizes[index]
    # Pixels as high for their width as the resized ones were before.
    panel.imshow(picture, aspect=(height / width) * (picture.shape[1] / picture.shape[0]))
    panel.set(xticks=[], yticks=[])
    panel.set_title(plain(title), pad=3)
    panel.spines[:].set_visible(False)
