"""Batch, instance and group normalization with the published epsilon and momentum."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lgmsnet.layers.base import SpatialLayer, float32_at_least, require_positive
from keras_lgmsnet.layers.forms.normalization import choose_normalization

EPSILON = 1e-5
MOMENTUM = 0.9


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class GroupNormalization(SpatialLayer):
    """Group normalization of images or volumes, of statistics in float32.

    Each image's channels fall into `groups` runs of neighbours; each run is brought to mean 0 and
    variance 1 over its channels and pixels, then scaled and shifted by channel. Keras's layer of
    that name makes a tensor of one axis more, which phones' GPUs refuse; this one reduces over
    the pixels first and over the few remaining channels afterwards.

    Args:
        groups: Number of groups, a divisor of the channels; `-1` gives every channel a group of
            its own (instance normalization).
        epsilon: Added to the variance; by default PyTorch's.
        center: Whether to learn an offset per channel, `beta`.
        scale: Whether to learn a scale per channel, `gamma`.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If `groups` does not divide the input's channels.

    Example:
    >>> GroupNormalization(4)(keras.ops.ones((1, 32, 32, 16))).shape
    (1, 32, 32, 16)
    """

    def __init__(
        self,
        groups: int,
        *,
        epsilon: float = EPSILON,
        center: bool = True,
        scale: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if groups != -1:
            require_positive(groups=groups)
        self.groups = groups
        self.epsilon = epsilon
        self.center = center
        self.scale = scale

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the scale and the offset."""
        super().build(input_shape)
        if self.channels % self.groups:
            raise ValueError(
                f"{self.name}: groups must divide the input's channels. "
                f"Received: groups={self.groups}, input_shape={tuple(input_shape)}"
            )
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight(name="gamma", shape=(self.channels,), initializer="ones")
        if self.center:
            self.beta = self.add_weight(name="beta", shape=(self.channels,), initializer="zeros")
        self._form = choose_normalization("group", self.rank, self.compute_dtype)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Normalize each image's groups of channels."""
        return self._form(self, inputs, bool(training))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "groups": self.groups,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "GroupNormalization":
        """Build the layer from what `get_config` returned.

        In version 0.1 it had one entry for both `center` and `scale`: `affine`.
        """
        config = dict(config)
        if "affine" in config:
            config["center"] = config["scale"] = config.pop("affine")
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalization, by the fused kernels of TensorFlow and PyTorch.

    The moving variance is the batch's own (not Bessel-corrected), as on every backend.

    Args:
        **kwargs: As for `keras.layers.BatchNormalization`, whose `epsilon` and `momentum` are by
            default 1e-5 and 0.9 (PyTorch's 0.1) here, as published.

    Example:
    >>> BatchNormalization()(keras.ops.ones((1, 32, 32, 16))).shape
    (1, 32, 32, 16)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**({"momentum": MOMENTUM, "epsilon": EPSILON} | kwargs))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        super().build(input_shape)
        self._form = choose_normalization("batch", len(input_shape) - 2, self.compute_dtype)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize by the batch's statistics in training, else by the moving ones."""
        usual = (
            self.axis in (-1, len(inputs.shape) - 1)
            and self.center
            and self.scale
            and not (self.synchronized or self.renorm or mask is not None)
        )
        if not usual:
            return super().call(inputs, training=training, mask=mask)
        return self._form(self, inputs, bool(training and self.trainable))

    def move(self, mean: Any, variance: Any) -> None:
        """Move the moving statistics towards a batch's."""
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class GhostBatchNormalization(BatchNormalization):
    """Batch normalization of parts of the batch apart (Hoffer et al., NeurIPS 2017).

    It computes, in training too, what calls of `BatchNormalization` with one part after the other
    compute: each part is normalized by its own statistics, and the moving ones move as often as
    there are parts. So may patches of images, which stand one after the other on the batch axis,
    pass through a network at once that was trained with one at a time.

    Args:
        parts: How many equal parts the batch has, all of one first, then all of the next.
        **kwargs: As for `keras.layers.BatchNormalization`, whose `epsilon` and `momentum` are by
            default 1e-5 and 0.9 (PyTorch's 0.1) here, as published.

    Raises:
        ValueError: If `parts` is not positive, or in training does not divide the batch.

    Example:
    >>> GhostBatchNormalization(4)(keras.ops.ones((8, 32, 32, 16)), training=True).shape
    (8, 32, 32, 16)
    """

    def __init__(self, parts: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_positive(parts=parts)
        self.parts = parts

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize by the parts' statistics in training, else by the moving ones."""
        if self.parts == 1 or not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        shape = ops.shape(inputs)
        if isinstance(shape[0], int) and shape[0] % self.parts:
            raise ValueError(
                f"{self.name} cuts the batch into {self.parts} equal parts, which must divide it. "
                f"Received: a batch of {shape[0]}"
            )
        axis = self.axis % len(shape)
        # Part, values before the channels, channels, values after them.
        sizes = (self.parts, -1, shape[axis], math.prod(shape[axis + 1 :]))
        x = ops.reshape(float32_at_least(inputs), sizes)
        mean, variance = ops.moments(x, axes=(1, 3), keepdims=True)
        self.move_in_turn(*(ops.reshape(x, (self.parts, -1)) for x in (mean, variance)))
        factor = ops.rsqrt(variance + self.epsilon)
        if self.scale:
            factor = factor * ops.reshape(ops.cast(self.gamma, x.dtype), (-1, 1))
        outputs = (x - mean) * factor
        if self.center:
            outputs = outputs + ops.reshape(ops.cast(self.beta, x.dtype), (-1, 1))
        return ops.cast(ops.reshape(outputs, (-1, *shape[1:])), self.compute_dtype)

    def move_in_turn(self, mean: Any, variance: Any) -> None:
        """Move the moving statistics towards those of one part after the other.

        Args:
            mean: Shape `(parts, channels)`.
            variance: The same.
        """
        later = self.momentum ** np.arange(self.parts)[::-1, None]
        weights = ops.convert_to_tensor((1 - self.momentum) * later, mean.dtype)
        for moving, of_parts in ((self.moving_mean, mean), (self.moving_variance, variance)):
            kept = moving * self.momentum**self.parts
            moving.assign(kept + ops.sum(weights * of_parts, axis=0))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"parts": self.parts}


def normalization_layer(normalization: str | None, rank: int, **kwargs: Any) -> keras.layers.Layer:
    """Return the normalization named, or the published one for a rank.

    Args:
        normalization: `"batch"` (epsilon 1e-5, momentum 0.9: PyTorch's 0.1), `"instance"` (without
            scale, offset or running statistics), or `None`: batch in 2D, instance in 3D.
        rank: 2 for images, 3 for volumes.
        **kwargs: `name` and `dtype`, passed to the layer.

    Raises:
        ValueError: If `normalization` is another one.
    """
    if normalization is None:
        normalization = "batch" if rank == 2 else "instance"
    if normalization == "batch":
        return BatchNormalization(**kwargs)
    if normalization == "instance":
        return GroupNormalization(-1, center=False, scale=False, **kwargs)
    raise ValueError(
        "normalization must be 'batch', 'instance' or None (batch in 2D, instance in 3D). "
        f"Received: normalization={normalization!r}"
    )
