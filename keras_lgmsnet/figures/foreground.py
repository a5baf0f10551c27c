"""The share of images that is lesion (paper, Fig. 1a)."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from keras_lgmsnet.figures.captioned import CaptionedFigure
from keras_lgmsnet.figures.style import WIDTH, in_style, looks, plain, style_diagram


def foreground_ratios(segmentation_masks: np.ndarray) -> np.ndarray:
    """Return the share of each image that is lesion of any class, 0 to 1.

    Args:
        segmentation_masks: 0 or 1, shape `(images, height, width, num_classes)`.

    Returns:
        Shape `(images,)`.
    """
    return segmentation_masks.any(axis=-1).mean(axis=(1, 2))


def foreground_figure(ratios: Mapping[str, Mapping[str, float]], size: str) -> CaptionedFigure:
    """Return the figure of the foreground ratio of datasets.

    Args:
        ratios: For each dataset's name the ratio of each of its images, by the image's id.
        size: Of the images, in words.
    """
    return CaptionedFigure(
        draw_foreground_ratios(
            {dataset: np.array(list(by_id.values())) for dataset, by_id in ratios.items()}
        ),
        f"Density of the share of an image that is lesion, at {size}, in images with a lesion; "
        "dots: medians. Gaussian kernels of Silverman's width on the logarithm.",
        [
            {"dataset": dataset, "id": id_, "foreground_ratio": ratio}
            for dataset, by_id in ratios.items()
            for id_, ratio in by_id.items()
        ],
    )


@in_style
def draw_foreground_ratios(ratios: Mapping[str, np.ndarray]) -> Figure:
    """Draw the density of the foreground ratio of datasets on one axis, with medians.

    Images without a lesion are not in the density but counted in the legend.

    Args:
        ratios: For each dataset's name the ratios of its images, 0 to 1.
    """
    figure = Figure(figsize=(WIDTH * 0.7, 3.2), layout="constrained")
    axes = figure.subplots()
    grid = np.linspace(0, 1, 1001)[1:]
    for (name, values), (color, line) in zip(ratios.items(), looks(), strict=False):
        lesions = values[values > 0]
        label = f"{plain(name)}: {len(lesions)} images"
        if len(lesions):
            density = foreground_density(lesions, grid)
            middle = float(np.median(lesions))
            label += f", median {100 * middle:.1f} %"
            axes.fill_between(100 * grid, density, color=color, alpha=0.08, linewidth=0)
            height = np.interp(middle, grid, density)
            axes.plot(100 * middle, height, marker="o", color=color, markersize=5)
        else:
            density = np.zeros_like(grid)
        if len(lesions) < len(values):
            label += f"; {len(values) - len(lesions)} without lesion"
        axes.plot(100 * grid, density, color=color, linestyle=line, label=label)
    axes.set(xlabel="Lesion, % of the image (dot: median)", xlim=(0, 100), ylim=(0, None))
    axes.set(ylabel="Images, % per percentage point")
    axes.legend(frameon=False)
    style_diagram(axes)
    return figure


def foreground_density(ratios: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return the density of ratios above 0 at the points of a grid above 0.

    The density f is estimated for the logarithm of the ratio, where small lesions have room, and
    carried back: f(x) = g(ln x) / x, with g a sum of Gaussians of Silverman's width,
    0.9 · min(standard deviation, interquartile range / 1.34) · n^(−1/5) and at least 0.1, reflected
    at a ratio of 1. So nothing lies outside 0 to 1, and small lesions are not smeared over those as
    small as none.
    """
    logarithms = np.log(ratios)
    low, high = np.quantile(logarithms, [0.25, 0.75])
    width = 0.9 * min(logarithms.std(), (high - low) / 1.34) * len(ratios) ** -0.2
    width = max(width, 0.1)
    density = np.zeros_like(grid)
    for point in np.concatenate([logarithms, -logarithms]):
        density += np.exp(-0.5 * ((np.log(grid) - point) / width) ** 2)
    return density / (len(ratios) * width * math.sqrt(2 * math.pi) * grid)
