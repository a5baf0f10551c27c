"""The published losses: cross-entropy plus soft Dice, from logits, one value per image."""

import math
from typing import Any

import keras
from keras import ops

from keras_lgmsnet.labels import (
    have_values,
    one_hot_labels,
    require_same_shape,
    require_values,
)


class SmoothDiceLoss(keras.losses.Loss):
    """What both losses share: `smooth`, NaN for masks of other values, and float32 for all.

    In float16 a sum over 256 × 256 pixels overflows.
    """

    def __init__(self, smooth: float, reduction: str | None, name: str):
        if not smooth > 0:
            raise ValueError(
                "`smooth` must be positive: it keeps the Dice of an empty image finite. "
                f"Received: smooth={smooth}"
            )
        super().__init__(name=name, reduction=reduction, dtype="float32")
        self.smooth = smooth

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the loss of a batch."""
        require_values(y_true, y_pred)
        return super().__call__(y_true, y_pred, sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "smooth": self.smooth}


class LossIsANumber(keras.callbacks.Callback):
    """Ends a training whose first batch, or any epoch, has a loss of NaN, with a `ValueError`.

    It is what the losses here give masks of other values in a compiled step, where nothing can be
    raised. Other batches are not looked at, so that nothing waits for them.
    """

    async_safe = True  # which tells Keras to hand it what is known already

    def __init__(self) -> None:
        super().__init__()
        self.is_first = True

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the loss of the first batch."""
        if self.is_first:
            _require_number(logs, "loss", "the first batch")
        self.is_first = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the losses of an epoch, of the validation, too."""
        _require_number(logs, "loss", f"epoch {epoch + 1}")
        _require_number(logs, "val_loss", f"the validation after epoch {epoch + 1}")


def _require_number(logs: dict[str, Any] | None, name: str, part: str) -> None:
    if math.isnan((logs or {}).get(name, 0)):
        raise ValueError(
            "Masks must hold the values from 0 to 1, or class numbers from 0 to num_classes - 1, "
            "and images finite numbers; divide masks of 0 and 255 by 255, and renumber others. If "
            f"they do, lower the learning rate. Received: a loss of NaN in {part}"
        )


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class BCEDiceLoss(SmoothDiceLoss):
    """Half the binary cross-entropy plus the soft Dice loss, from logits.

    With `p = sigmoid(logits)` and mask `y`, the loss of one image is

        0.5 · mean(BCE(p, y)) + 1 - (2·Σpy + smooth) / (Σp + Σy + smooth)

    Mean and sums run over every pixel and class of the image, and the loss of a batch is the mean
    over its images (published program, 2D). With several classes each has a mask of its own
    (multi-label); classes that exclude one another want `DiceCELoss`.

    Args:
        smooth: Added to both terms of the fraction, in pixels; positive.
        reduction: How the losses of the images are combined, as in `keras.losses.Loss`.
        name: Name of the loss.

    Call arguments:
        y_true: Mask of values in [0, 1], shape `(batch, *sides, num_classes)`.
        y_pred: Logits of the same shape.
        sample_weight: Optional weights, one per image, shape `(batch,)`.

    Raises:
        ValueError: When `smooth` is not positive, the shapes differ, or a mask in a NumPy array has
            other values; one in a tensor has a loss of NaN.

    Example:
    ```python
    loss = BCEDiceLoss()
    loss(np.zeros((2, 256, 256, 1)), logits)
    model.compile(optimizer="sgd", loss=BCEDiceLoss())
    ```
    """

    def __init__(
        self,
        smooth: float = 1e-5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "bce_dice_loss",
    ):
        super().__init__(smooth, reduction, name)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return one loss per image, shape `(batch,)`."""
        require_same_shape(y_true, y_pred)
        image_axes = tuple(range(1, len(y_pred.shape)))
        cross_entropy = ops.mean(
            ops.binary_crossentropy(y_true, y_pred, from_logits=True), axis=image_axes
        )
        probabilities = ops.sigmoid(y_pred)
        intersection = ops.sum(probabilities * y_true, axis=image_axes)
        total = ops.sum(probabilities, axis=image_axes) + ops.sum(y_true, axis=image_axes)
        dice = (2 * intersection + self.smooth) / (total + self.smooth)
        return ops.where(have_values(y_true), 0.5 * cross_entropy + 1 - dice, math.nan)


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class DiceCELoss(SmoothDiceLoss):
    """Soft Dice loss with squared denominators plus cross-entropy, from softmax logits.

    With `p = softmax(logits)` and one-hot labels `y`, the loss of one image is

        mean over classes(1 - (2·Σpy + smooth) / (Σp² + Σy² + smooth))
        + mean over pixels(-log p of the labelled class)

    The sums run over the pixels of one class, background included. It is the loss of the published
    3D program, MONAI's `DiceCELoss(to_onehot_y=True, softmax=True, squared_pred=True)`; it serves
    2D as well.

    Args:
        smooth: Added to both terms of the fraction, in pixels; positive.
        reduction: How the losses of the images are combined, as in `keras.losses.Loss`.
        name: Name of the loss.

    Call arguments:
        y_true: Class numbers `0 … num_classes - 1` of shape `(batch, *sides)` or
            `(batch, *sides, 1)`, rounded to integers, or one-hot labels, `(batch, *sides,
            num_classes)`.
        y_pred: Logits of shape `(batch, *sides, num_classes)`, at least 2 classes.
        sample_weight: Optional weights, one per image, shape `(batch,)`.

    Raises:
        ValueError: When `smooth` is not positive, the shapes of labels and logits do not fit, or
            labels in a NumPy array are out of range; those in a tensor have a loss of NaN.

    Example:
    ```python
    loss = DiceCELoss()
    loss(np.zeros((1, 96, 96, 96), "int32"), logits)  # logits: (1, 96, 96, 96, 14)
    ```
    """

    def __init__(
        self,
        smooth: float = 1e-5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "dice_ce_loss",
    ):
        super().__init__(smooth, reduction, name)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return one loss per image, shape `(batch,)`."""
        labels, are_right = one_hot_labels(y_true, y_pred)
        pixel_axes = tuple(range(1, len(y_pred.shape) - 1))
        log_probabilities = ops.log_softmax(y_pred, axis=-1)
        probabilities = ops.exp(log_probabilities)
        intersection = ops.sum(probabilities * labels, axis=pixel_axes)
        total = ops.sum(ops.square(probabilities) + ops.square(labels), axis=pixel_axes)
        dice = (2 * intersection + self.smooth) / (total + self.smooth)
        cross_entropy = -ops.sum(labels * log_probabilities, axis=-1)
        loss = ops.mean(1 - dice, axis=-1) + ops.mean(cross_entropy, axis=pixel_axes)
        return ops.where(are_right, loss, math.nan)
