"""The report of a run on images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_lgmsnet.data.images import Rows
from keras_lgmsnet.drawing.cases import best_median_worst, has_outlines
from keras_lgmsnet.drawing.diagrams import make_figure, tick_whole_numbers
from keras_lgmsnet.drawing.outlines import PREDICTION_COLOR, TRUTH_COLOR, outlined
from keras_lgmsnet.kinds import IMAGES
from keras_lgmsnet.reports.page import History, picture_uri, render_page, svg_uri


def render_image_report(
    *,
    title: str,
    metrics: Mapping[str, Any],
    history: History,
    ids: Sequence[str],
    images: np.ndarray | Rows,
    segmentation_masks: np.ndarray | Rows,
    predictions: np.ndarray,
    ious: np.ndarray,
    recipe: Mapping[str, Mapping[str, Any]],
    environment: Mapping[str, str],
) -> str:
    """Return the report as a page that needs no other file.

    Args:
        title: Heading of the page.
        metrics: Contents of `metrics.json`: "subset" (`"test"` or `"validation"`), "images" (their
            number), "best_epoch", "means" (the mean of every score, by its name), "convention" and
            "caution"; where the subset is `"test"`, "validation_means", too.
        history: One mapping an epoch: `loss`, `iou`, `f1`, their `val_` counterparts, and
            `learning_rate`.
        ids: Name of every image scored: those of the metrics' "subset".
        images: 8-bit RGB, shape `(images, height, width, 3)`.
        segmentation_masks: True masks of 0 and 1, shape `(images, height, width, num_classes)`.
        predictions: Predicted masks, of the same shape.
        ious: IoU of every image.
        recipe: The resolved recipe, by section.
        environment: Backend and versions.
    """

    def case(index: int) -> dict[str, Any]:
        picture = outlined(images[index], segmentation_masks[index], predictions[index])
        return {
            "id": ids[index],
            "iou": ious[index],
            "has_lesion": segmentation_masks[index].any(),
            "image": picture_uri(picture),
        }

    shows = has_outlines(segmentation_masks, predictions)
    groups = best_median_worst(ious, np.flatnonzero(shows))
    validation = metrics.get("validation_means")
    return render_page(
        IMAGES,
        title=title,
        metrics=metrics,
        means=_means(metrics["means"]),
        validation_means=None if validation is None else _means(validation),
        diagrams=[_distribution(ious, metrics["subset"])],
        history=history,
        groups={name: [case(index) for index in indices] for name, indices in groups.items()},
        num_hidden=int(np.count_nonzero(~shows)),
        recipe=recipe,
        environment=environment,
        truth_color=TRUTH_COLOR,
        prediction_color=PREDICTION_COLOR,
    )


def _means(means: Mapping[str, float]) -> dict[str, str]:
    """Return mean scores as printed, by what to call them."""
    return {
        IMAGES.headlines.get(name, name.capitalize()): f"{mean:.4f}" for name, mean in means.items()
    }


def _distribution(ious: np.ndarray, subset: str) -> dict[str, str]:
    """Return the histogram of the images' IoU."""
    figure, axes = make_figure(f"IoU of the {subset} images", xlabel="IoU")
    axes.hist(ious, bins=np.linspace(0, 1, 21).tolist(), color="#1262b3", edgecolor="white")
    axes.axvline(ious.mean(), color="#c2410c", linestyle=":", label="mean")
    axes.set(ylabel="images", xlim=(0, 1))
    tick_whole_numbers(axes.yaxis)
    axes.legend(frameon=False)
    low, middle, high = np.quantile(ious, [0.25, 0.5, 0.75])
    return {
        "image": svg_uri(figure),
        "alt": f"Histogram of IoU; quartiles {low:.3f}, {middle:.3f} and {high:.3f}.",
    }
