"""Masks as losses and metrics take them: the shapes that are accepted, and one-hot labels."""

from collections.abc import Sequence
from typing import Any

from keras import ops


def require_same_shape(segmentation_mask: Any, logits: Any) -> None:
    """Raise unless both tensors have one shape, since broadcasting would hide the mistake."""
    if not _compatible(segmentation_mask.shape, logits.shape):
        raise ValueError(
            "The segmentation mask must have the logits' shape, (batch, *sides, num_classes); a "
            "missing axis of size 1 can be added with `mask[..., None]`. Received: "
            f"segmentation_mask.shape={tuple(segmentation_mask.shape)}, "
            f"logits.shape={tuple(logits.shape)}"
        )


def one_hot_labels(labels: Any, logits: Any) -> Any:
    """Return labels as float32 of the logits' shape, one-hot on the last axis.

    Args:
        labels: Class numbers `0 … num_classes - 1` of shape `(batch, *sides)` or
            `(batch, *sides, 1)`, or already one-hot, `(batch, *sides, num_classes)`. Values are
            not checked, since they are unknown while a graph is traced: a number out of range
            counts for no class on TensorFlow and JAX, and is an error on PyTorch.
        logits: Tensor of shape `(batch, *sides, num_classes)`.

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
    if _compatible(labels_shape, logits_shape):
        return ops.cast(labels, "float32")
    if _compatible(labels_shape, (*sides, 1)):
        labels = ops.squeeze(labels, axis=-1)
    elif not _compatible(labels_shape, sides):
        raise ValueError(
            "Labels must be class numbers of shape (batch, *sides) or (batch, *sides, 1), or "
            f"one-hot of the logits' shape. {received}"
        )
    return ops.one_hot(ops.cast(labels, "int32"), num_classes, dtype="float32")


def _compatible(shape: Sequence[int | None], other: Sequence[int | None]) -> bool:
    return len(shape) == len(other) and all(
        None in (side, other_side) or side == other_side
        for side, other_side in zip(shape, other, strict=True)
    )
