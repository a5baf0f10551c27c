"""How far an export agrees with the network that it was made of, example by example."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_lgmsnet.metrics import THRESHOLD, image_scores


def compare(
    ids: Sequence[str],
    segmentation_masks: np.ndarray,
    network_probabilities: np.ndarray,
    probabilities: np.ndarray,
    *,
    exclusive: bool = False,
) -> list[dict[str, Any]]:
    """Compare an export with its network on some examples, each alone.

    Args:
        ids: The examples' names.
        segmentation_masks: The true masks of 0 and 1, shape `(examples, *sides, num_classes)`.
        network_probabilities: What the network finds, of the same shape.
        probabilities: What the export finds, of the same shape.
        exclusive: Whether each voxel belongs to the most probable class, the first of which is the
            background and not scored; by default the masks of the classes may overlap.

    Returns:
        A mapping an example: `id`; `max_probability_difference`; `changed_pixels`, the share of
        pixels, or voxels, that belong to other classes; `network_iou`, `iou`, `network_f1`, `f1`
        (F1 is Dice), the means over the classes that are there or found by either, 1 where none is.
    """
    sides = tuple(range(1, probabilities.ndim - 1))
    classify = _most_probable if exclusive else _above_threshold
    network_masks, exported_masks = classify(network_probabilities), classify(probabilities)
    columns = {
        "max_probability_difference": np.abs(network_probabilities - probabilities).max(
            (*sides, -1)
        ),
        "changed_pixels": (network_masks != exported_masks).any(-1).mean(sides),
    }
    masks = [segmentation_masks.astype(bool), network_masks, exported_masks]
    if exclusive:
        masks = [mask[..., 1:] for mask in masks]  # without the background
    counted = np.any(masks, axis=0).any(sides)
    network_scores, scores = (_score(masks[0], predicted, counted) for predicted in masks[1:])
    for score in ("iou", "f1"):
        columns |= {f"network_{score}": network_scores[score], score: scores[score]}
    return [
        {"id": id_, **{name: float(values[row]) for name, values in columns.items()}}
        for row, id_ in enumerate(ids)
    ]


def summarize(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the rows of `compare` come to.

    Returns:
        `examples`, their number; `max_probability_difference`, the largest; the means of the other
        values; and `iou_loss`, by how much the mean IoU lies below the network's.
    """
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0] if name != "id"}
    largest = columns.pop("max_probability_difference").max()  # NaN if one of them is
    means = {name: float(values.mean()) for name, values in columns.items()}
    return {
        "examples": len(rows),
        "max_probability_difference": float(largest),
        **means,
        "iou_loss": means["network_iou"] - means["iou"],
    }


def _above_threshold(probabilities: np.ndarray) -> np.ndarray:
    return probabilities > THRESHOLD


def _most_probable(probabilities: np.ndarray) -> np.ndarray:
    return probabilities.argmax(-1)[..., None] == np.arange(probabilities.shape[-1])


def _score(true: np.ndarray, predicted: np.ndarray, counted: np.ndarray) -> dict[str, np.ndarray]:
    """Return the means over the classes that count of each example's scores."""
    # One image for each example and class.
    true, predicted = (
        np.moveaxis(masks, -1, 1).reshape(counted.size, -1) for masks in (true, predicted)
    )
    scores = image_scores(true, predicted - THRESHOLD)  # as logits: only the side of 0 counts
    weights = np.where(counted.any(-1, keepdims=True), counted, True)
    return {
        name: np.average(values.reshape(counted.shape), axis=-1, weights=weights)
        for name, values in scores.items()
    }
