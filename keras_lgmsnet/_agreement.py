"""How far an export agrees with the network that it was made of, image by image."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_lgmsnet.metrics import image_scores
from keras_lgmsnet.scoring import THRESHOLD


def compare(
    ids: Sequence[str],
    segmentation_masks: np.ndarray,
    network_probabilities: np.ndarray,
    probabilities: np.ndarray,
) -> list[dict[str, Any]]:
    """Compare an export with its network on some images, each alone.

    Args:
        ids: The images' names.
        segmentation_masks: The true masks of 0 and 1, shape `(images, height, width, classes)`.
        network_probabilities: What the network finds, of the same shape.
        probabilities: What the export finds, of the same shape.

    Returns:
        A mapping an image: `id`; `max_probability_difference`; `changed_pixels`, the share of
        pixels on the other side of the threshold; `network_iou`, `iou`, `network_f1`, `f1`.
    """
    axes = (1, 2, 3)
    difference = np.abs(network_probabilities - probabilities).max(axes)
    changed = (network_probabilities > THRESHOLD) != (probabilities > THRESHOLD)
    # As logits: a logit of 0 is the threshold, and only the side counts.
    network_scores = image_scores(segmentation_masks, network_probabilities - THRESHOLD)
    scores = image_scores(segmentation_masks, probabilities - THRESHOLD)
    columns = {
        "max_probability_difference": difference,
        "changed_pixels": changed.mean(axes),
        "network_iou": network_scores["iou"],
        "iou": scores["iou"],
        "network_f1": network_scores["f1"],
        "f1": scores["f1"],
    }
    return [
        {"id": id_, **{name: float(values[row]) for name, values in columns.items()}}
        for row, id_ in enumerate(ids)
    ]


def summarize(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the rows of `compare` come to.

    Returns:
        `images`, their number; `max_probability_difference`, the largest; the means of the other
        values; and `iou_loss`, by how much the mean IoU lies below the network's.
    """
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0] if name != "id"}
    largest = columns.pop("max_probability_difference").max()  # NaN if one of them is
    means = {name: float(values.mean()) for name, values in columns.items()}
    return {
        "images": len(rows),
        "max_probability_difference": float(largest),
        **means,
        "iou_loss": means["network_iou"] - means["iou"],
    }
