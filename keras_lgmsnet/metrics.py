"""Segmentation metrics: one score per image, averaged over the images seen.

A ratio 0/0 (say, the sensitivity on an image without lesion) counts 1 when the prediction equals
the mask and 0 otherwise, so that missing a lesion or inventing one never helps.
"""

import math
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_lgmsnet.labels import one_hot_labels, require_same_shape, require_values

# The probability above which a pixel is predicted as lesion, unless another is asked for.
THRESHOLD = 0.5


class ImageScore(keras.metrics.Mean):
    """Base of the metrics that score each image and average the scores.

    With several classes (multi-label), the pixels of all classes are counted together, as
    `BCEDiceLoss` sums them. Counts are exact, whatever the size of the image.

    Args:
        threshold: Probability above which a pixel is predicted as lesion, between 0 and 1.
        name: Name of the metric; by default the class's `default_name`.
        dtype: Type of the running mean.

    Call arguments:
        y_true: Mask, lesion where it is above 0.5, shape `(batch, *sides, num_classes)`.
        y_pred: Logits of the same shape, of any float type; compared in float32.
        sample_weight: Optional weights, one per image, shape `(batch,)`.

    Raises:
        ValueError: When `threshold` is out of range, or the shapes differ.

    Example:
    ```python
    model.compile(optimizer="sgd", loss=BCEDiceLoss(), metrics=[ImageIoU(), ImageF1()])
    ```
    """

    default_name: ClassVar[str]

    def __init__(
        self, threshold: float = THRESHOLD, name: str | None = None, dtype: str | None = "float32"
    ):
        _require_probability(threshold)
        super().__init__(name=name or self.default_name, dtype=dtype)
        self.threshold = threshold

    @staticmethod
    def _ratio(confusion: "_Confusion") -> tuple[Any, Any]:
        """Return numerator and denominator of every image's score."""
        raise NotImplementedError

    @classmethod
    def _scores(cls, confusion: "_Confusion") -> Any:
        """Return the score of every image, in [0, 1]: float32 of shape `(batch,)`."""
        numerator, denominator = cls._ratio(confusion)
        prediction_equals_mask = confusion.false_positives + confusion.false_negatives == 0
        return ops.where(
            denominator > 0,
            numerator / ops.maximum(denominator, 1),
            ops.cast(prediction_equals_mask, "float32"),
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch of images to the mean."""
        confusion = _count_confusion(y_true, y_pred, self.threshold)
        super().update_state(self._scores(confusion), sample_weight=sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "threshold": self.threshold}


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class ImageIoU(ImageScore):
    """Mean over images of the intersection over union, TP / (TP + FP + FN).

    1 for an empty mask predicted empty. See `ImageScore` for the arguments.
    """

    default_name = "iou"

    @staticmethod
    def _ratio(confusion: "_Confusion") -> tuple[Any, Any]:
        tp, fp, fn, _ = confusion
        return tp, tp + fp + fn


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class ImageF1(ImageScore):
    """Mean over images of the F1 score, or Dice coefficient, 2·TP / (2·TP + FP + FN).

    1 for an empty mask predicted empty. See `ImageScore` for the arguments.
    """

    default_name = "f1"

    @staticmethod
    def _ratio(confusion: "_Confusion") -> tuple[Any, Any]:
        tp, fp, fn, _ = confusion
        return 2 * tp, 2 * tp + fp + fn


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class ImageSensitivity(ImageScore):
    """Mean over images of the sensitivity, or recall, TP / (TP + FN).

    For an empty mask, 1 if predicted empty, else 0. See `ImageScore` for the arguments.
    """

    default_name = "sensitivity"

    @staticmethod
    def _ratio(confusion: "_Confusion") -> tuple[Any, Any]:
        tp, _, fn, _ = confusion
        return tp, tp + fn


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class ImagePrecision(ImageScore):
    """Mean over images of the precision, TP / (TP + FP).

    For an empty prediction, 1 if the mask is empty, else 0. See `ImageScore` for the arguments.
    """

    default_name = "precision"

    @staticmethod
    def _ratio(confusion: "_Confusion") -> tuple[Any, Any]:
        tp, fp, _, _ = confusion
        return tp, tp + fp


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class ImageSpecificity(ImageScore):
    """Mean over images of the specificity, TN / (TN + FP).

    For a full mask, 1 if predicted full, else 0. See `ImageScore` for the arguments.
    """

    default_name = "specificity"

    @staticmethod
    def _ratio(confusion: "_Confusion") -> tuple[Any, Any]:
        _, fp, _, tn = confusion
        return tn, tn + fp


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class ImageAccuracy(ImageScore):
    """Mean over images of the share of pixels predicted right. See `ImageScore`."""

    default_name = "accuracy"

    @staticmethod
    def _ratio(confusion: "_Confusion") -> tuple[Any, Any]:
        tp, fp, fn, tn = confusion
        return tp + tn, tp + fp + fn + tn


def image_scores(
    segmentation_mask: Any, logits: Any, threshold: float = THRESHOLD
) -> dict[str, np.ndarray]:
    """Return the scores that the metrics above average, image by image.

    Args:
        segmentation_mask: Mask, lesion where it is above 0.5, shape `(batch, *sides, num_classes)`.
        logits: Logits of the same shape.
        threshold: Probability above which a pixel is predicted as lesion, between 0 and 1.

    Returns:
        Float32 arrays of shape `(batch,)` under "iou", "f1", "sensitivity", "precision",
        "specificity" and "accuracy".

    Raises:
        ValueError: When `threshold` is out of range, or the shapes differ.

    Example:
    ```python
    image_scores(masks, model.predict(images))["iou"]  # array([0.81, 0.93], dtype=float32)
    ```
    """
    _require_probability(threshold)
    confusion = _count_confusion(segmentation_mask, logits, threshold)
    metrics = (
        ImageIoU,
        ImageF1,
        ImageSensitivity,
        ImagePrecision,
        ImageSpecificity,
        ImageAccuracy,
    )
    return {
        metric.default_name: ops.convert_to_numpy(metric._scores(confusion)) for metric in metrics
    }


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class ClassDice(keras.metrics.Metric):
    """Dice coefficient of each class, averaged over the images that concern it, then over classes.

    A class present in neither the mask nor the prediction of an image does not count there. A
    class that is predicted but absent, or present but missed, counts 0. The predicted class is the
    one of the largest logit.

    Args:
        num_classes: Number of classes, background included; at least 2.
        include_background: Whether class 0 enters the mean over classes.
        name: Name of the metric.
        dtype: Type of the running means.

    Call arguments:
        y_true: Class numbers `0 … num_classes - 1` of shape `(batch, *sides)` or
            `(batch, *sides, 1)`, rounded to integers, or one-hot labels, `(batch, *sides,
            num_classes)`.
        y_pred: Logits of shape `(batch, *sides, num_classes)`.
        sample_weight: Optional weights, one per image, shape `(batch,)`.

    Returns:
        `result()` is a scalar: the mean over the classes seen so far, NaN before the first;
        `per_class()` is the vector behind it.

    Raises:
        ValueError: When `num_classes` is less than 2 or differs from that of the logits, the shapes
            of labels and logits do not fit, or labels in a NumPy array are out of range; those in a
            tensor make the result NaN.

    Example:
    ```python
    dice = ClassDice(num_classes=14)
    dice.update_state(labels, logits)  # (1, 96, 96, 96, 1), (1, 96, 96, 96, 14)
    dice.result(), dice.per_class()[6]
    ```
    """

    def __init__(
        self,
        num_classes: int,
        include_background: bool = False,
        name: str = "class_dice",
        dtype: str | None = "float32",
    ):
        if num_classes < 2:
            raise ValueError(
                "`num_classes` counts the background too and must be at least 2. "
                f"Received: num_classes={num_classes}"
            )
        super().__init__(name=name, dtype=dtype)
        self.num_classes = num_classes
        self.include_background = include_background
        # A sum of scores, not of voxels: it stays small however many volumes are seen.
        self.total = self.add_variable((num_classes,), "zeros", dtype=self.dtype, name="total")
        self.count = self.add_variable((num_classes,), "zeros", dtype=self.dtype, name="count")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch of images to the means."""
        logits = ops.convert_to_tensor(y_pred)
        if logits.shape[-1] != self.num_classes:
            raise ValueError(
                f"The logits' last axis must hold {self.num_classes} classes. "
                f"Received: logits.shape={tuple(logits.shape)}"
            )
        require_values(y_true, logits)
        labels, are_right = one_hot_labels(ops.convert_to_tensor(y_true), logits)
        labels = labels > 0.5
        predictions = ops.one_hot(ops.argmax(logits, axis=-1), self.num_classes) > 0.5
        pixel_axes = tuple(range(1, len(logits.shape) - 1))
        intersection = _count(labels & predictions, pixel_axes)
        total = _count(labels, pixel_axes) + _count(predictions, pixel_axes)
        dice = ops.cast(2 * intersection / ops.maximum(total, 1), self.dtype)
        dice = ops.where(ops.expand_dims(are_right, -1), dice, math.nan)
        weight = ops.cast(total > 0, self.dtype)
        if sample_weight is not None:
            weight = weight * ops.reshape(ops.cast(sample_weight, self.dtype), (-1, 1))
        self.total.assign_add(ops.sum(weight * dice, axis=0))
        self.count.assign_add(ops.sum(weight, axis=0))

    def per_class(self) -> Any:
        """Return the mean Dice of every class, background first: shape `(num_classes,)`.

        It is NaN for a class never seen, neither in a mask nor in a prediction.
        """
        return self.total / self.count

    def result(self) -> Any:
        """Return the mean over the classes seen, a scalar."""
        first = 0 if self.include_background else 1
        dice, count = self.per_class()[first:], self.count[first:]
        seen = ops.cast(count > 0, self.dtype)
        return ops.sum(ops.where(count > 0, dice, 0)) / ops.sum(seen)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "include_background": self.include_background,
        }


class _Confusion(NamedTuple):
    """Number of pixels of each image, by prediction and mask: float32, shape `(batch,)`."""

    true_positives: Any
    false_positives: Any
    false_negatives: Any
    true_negatives: Any


def _require_probability(threshold: float) -> None:
    if not 0 < threshold < 1:
        raise ValueError(
            "`threshold` is a probability strictly between 0 and 1. "
            f"Received: threshold={threshold}"
        )


def _count_confusion(segmentation_mask: Any, logits: Any, threshold: float) -> _Confusion:
    segmentation_mask = ops.cast(segmentation_mask, "float32")
    logits = ops.cast(logits, "float32")
    require_same_shape(segmentation_mask, logits)
    lesion = segmentation_mask > 0.5
    predicted = logits > math.log(threshold / (1 - threshold))
    image_axes = tuple(range(1, len(logits.shape)))
    return _Confusion(
        true_positives=_count(predicted & lesion, image_axes),
        false_positives=_count(predicted & ~lesion, image_axes),
        false_negatives=_count(~predicted & lesion, image_axes),
        true_negatives=_count(~predicted & ~lesion, image_axes),
    )


def _count(pixels: Any, axes: tuple[int, ...]) -> Any:
    """Return the number of pixels set as float32, counted in int32.

    A sum in float32 would be exact up to 2²⁴ pixels only.
    """
    return ops.cast(ops.sum(ops.cast(pixels, "int32"), axis=axes), "float32")
