"""Masks as losses and metrics take them: the shapes and values that are accepted, one-hot labels.

Values that are not accepted are refused where they are at hand, in NumPy arrays. Those of tensors
are not looked at: while a graph is traced there are none, and asking a device for them at each step
would make it wait. There, they give NaN, which any step shows and which costs one comparison.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_lgmsnet.tolerances import LABEL_ROUNDING


def require_same_shape(segmentation_mask: Any, logits: Any) -> None:
    """Raise unless both tensors have one shape, since broadcasting would hide the mistake."""
    if not _compatible(segmentation_mask.shape, logits.shape):
        raise ValueError(
            "The segmentation mask must have the logits' shape, (batch, *sides, num_classes); a "
            "missing axis of size 1 can be added with `mask[..., None]`. Received: "
            f"segmentation_mask.shape={tuple(segmentation_mask.shape)}, "
            f"logits.shape={tuple(logits.shape)}"
        )


def require_values(segmentation_mask: Any, logits: Any) -> None:
    """Raise if a NumPy array holds other values than masks of these logits may have."""
    if not isinstance(segmentation_mask, np.ndarray) or not segmentation_mask.size:
        return
    shape = np.shape(logits)
    largest, margin = 1, LABEL_ROUNDING
    if segmentation_mask.shape != shape:  # class numbers, which are rounded
        largest, margin = max(1, shape[-1] - 1), 0.5
    low, high = float(segmentation_mask.min()), float(segmentation_mask.max())
    if not -margin <= low <= high <= largest + margin:
        raise ValueError(
            f"Masks must hold values from 0 to {largest}; divide those of 0 and 255 by 255, and "
            f"renumber others. Received: values from {low:g} to {high:g}"
        )


def have_values(segmentation_mask: Any, largest: int = 1) -> Any:
    """Return which masks of a batch hold values from 0 to `largest`: booleans, shape `(batch,)`."""
    axes = tuple(range(1, len(segmentation_mask.shape)))
    low, high = ops.min(segmentation_mask, axis=axes), ops.max(segmentation_mask, axis=axes)
    return (low >= -LABEL_ROUNDING) & (high <= largest + LABEL_ROUNDING)


def one_hot_labels(labels: Any, logits: Any) -> tuple[Any, Any]:
    """Return labels as float32 of the logits' shape, one-hot on the last axis, and which are right.

    Args:
        labels: Class numbers `0 … num_classes - 1` of shape `(batch, *sides)` or
            `(batch, *sides, 1)`, rounded to integers, or already one-hot, `(batch, *sides,
            num_classes)`.
        logits: Tensor of shape `(batch, *sides, num_classes)`.

    Returns:
        The one-hot labels, in which a number out of range counts for no class; and which masks of
        the batch have none, booleans of shape `(batch,)`.

    Raises:
        ValueError: When the shapes fit none of the three forms, or cannot tell which it is.
    """
    labels_shape, logits_shape = tuple(labels.shape), tuple(logits.shape)
    received = f"Received: labels.shape={labels_shape}, logits.shape={logits_shape}"
    *sides, num_classes = logits_shape
    if num_classes is None or num_classes < 2:
        raise ValueError(
            "Logits of a softmax need a known last axis of at least 2 classes, background "
            f"included. {received}"
        )
    if len(labels_shape) == len(logits_shape) and labels_shape[-1] is None:
        raise ValueError(
            "The labels' last axis must be known, to tell class numbers from one-hot labels: "
            f"set it to 1 or {num_classes}. {received}"
        )
    labels = ops.cast(labels, "float32")
    if _compatible(labels_shape, logits_shape):
        return labels, have_values(labels)
    if _compatible(labels_shape, (*sides, 1)):
        labels = ops.squeeze(labels, axis=-1)
    elif not _compatible(labels_shape, sides):
        raise ValueError(
            "Labels must be class numbers of shape (batch, *sides) or (batch, *sides, 1), or "
            f"one-hot of the logits' shape. {received}"
        )
    # Resampled or scaled in a file, a label may be 0.99999994, which a cast would make 0.
    labels = ops.round(labels)
    classes = ops.arange(num_classes, dtype="float32")
    one_hot = ops.cast(ops.equal(ops.expand_dims(labels, -1), classes), "float32")
    return one_hot, have_values(labels, num_classes - 1)


def _compatible(shape: Sequence[int | None], other: Sequence[int | None]) -> bool:
    return len(shape) == len(other) and all(
        None in (side, other_side) or side == other_side
        for side, other_side in zip(shape, other, strict=True)
    )
