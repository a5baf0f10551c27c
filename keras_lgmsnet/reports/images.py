"""The report of a run on images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_lgmsnet.drawing.diagrams import make_figure
from keras_lgmsnet.drawing.outlines import PREDICTION_COLOR, TRUTH_COLOR, outlined
from keras_lgmsnet.reports.page import (
    best_median_worst,
    draw_curves,
    picture_uri,
    render_page,
    svg_uri,
)

_CURVES = {"loss": "Loss", "iou": "IoU", "f1": "F1", "learning_rate": "Learning rate"}


def render_report(
    *,
    title: str,
    metrics: dict[str, Any],
    history: Sequence[dict[str, float]],
    ids: Sequence[str],
    images: np.ndarray,
    segmentation_masks: np.ndarray,
    predictions: np.ndarray,
    ious: np.ndarray,
    recipe: dict[str, dict[str, Any]],
    environment: dict[str, str],
) -> str:
    """Return the report as a page that needs no other file.

    Args:
        title: Heading of the page.
        metrics: Contents of `metrics.json`.
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
        return {
            "id": ids[index],
            "iou": ious[index],
            "has_lesion": segmentation_masks[index].any(),
            "image": picture_uri(
                outlined(images[index], segmentation_masks[index], predictions[index])
            ),
        }

    # A picture without outlines shows nothing, however right it is.
    shows = np.logical_or(segmentation_masks, predictions).any(axis=(1, 2, 3))
    groups = best_median_worst(ious, np.flatnonzero(shows))
    return render_page(
        "report.html.jinja",
        title=title,
        metrics=metrics,
        figures=[
            _distribution(ious, metrics["subset"]),
            *draw_curves(history, metrics["best_epoch"], _CURVES),
        ],
        groups={name: [case(index) for index in indices] for name, indices in groups.items()},
        num_hidden=int(np.count_nonzero(~shows)),
        recipe=recipe,
        environment=environment,
        truth_color=TRUTH_COLOR,
        prediction_color=PREDICTION_COLOR,
    )


def _distribution(ious: np.ndarray, subset: str) -> dict[str, str]:
    figure, axes = make_figure(f"IoU of the {subset} images", xlabel="IoU")
    axes.hist(ious, bins=np.linspace(0, 1, 21), color="#1262b3", edgecolor="white")
    axes.axvline(ious.mean(), color="#c2410c", linestyle=":", label="mean")
    axes.set(ylabel="images", xlim=(0, 1))
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    low, middle, high = np.quantile(ious, [0.25, 0.5, 0.75])
    return {
        "image": svg_uri(figure),
        "alt": f"Histogram of IoU; quartiles {low:.3f}, {middle:.3f} and {high:.3f}.",
    }
