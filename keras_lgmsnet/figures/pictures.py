"""Images in figures: those that are shown, and grids of pictures in their original proportions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keras_lgmsnet.data.images import Examples
from keras_lgmsnet.figures.style import WIDTH, plain


@dataclass(frozen=True, eq=False)
class Cases:
    """Images that are shown.

    Args:
        examples: The images.
        rules: What each was chosen as, such as `"best"`; empty where its id was asked for.
        choice: The sentence that says how they were chosen; empty where their ids were asked for.
    """

    examples: Examples
    rules: Sequence[str]
    choice: str

    @property
    def labels(self) -> list[str]:
        """What to write beside each image."""
        return [
            f"{rule}\n{id_}".strip()
            for rule, id_ in zip(self.rules, self.examples.ids, strict=True)
        ]


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
    """Show a picture of an image in the image's original proportions.

    Args:
        panel: Where.
        picture: RGB, in the proportions that the image was resized to.
        examples: The images.
        index: Which of them it is a picture of.
        title: What to write above it.
    """
    height, width = examples.original_sizes[index]
    # Pixels as high for their width as the resized ones were before.
    panel.imshow(picture, aspect=(height / width) * (picture.shape[1] / picture.shape[0]))
    panel.set(xticks=[], yticks=[])
    panel.set_title(plain(title), pad=3)
    panel.spines[:].set_visible(False)
