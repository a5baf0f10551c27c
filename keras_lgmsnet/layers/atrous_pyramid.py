"""DeepLabV3's pyramid: neighbours at several distances, and the whole map, seen at once."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.base import (
    SpatialLayer,
    float32_at_least,
    over_pixels,
    positive_integers,
)
from keras_lgmsnet.layers.conv_norm_activation import ConvNormActivation


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class AtrousPyramidPooling(SpatialLayer):
    """Atrous spatial pyramid pooling of DeepLabV3 (Chen et al., 2017), 2D or 3D.

    A pointwise convolution, 3-wide ones of several dilations, and a pointwise one of the mean over
    the map, which is spread over it again: each is normalized by batch and rectified. All are
    joined and mixed by a further such step; in training some of the values are dropped.

    The mean of an image is one value a channel. So in training a batch of one image tells its norm
    nothing, and that branch returns its offset alone, where PyTorch refuses to train: take two
    images at least.

    Args:
        filters: Output channels, of each branch and of all.
        dilations: Distances between the taps of the 3-wide convolutions.
        dropout: Share of the outputs that are dropped in training.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If an argument is out of range.

    Example:
    >>> AtrousPyramidPooling(64)(keras.ops.ones((1, 16, 16, 32))).shape
    (1, 16, 16, 64)
    """

    def __init__(
        self,
        filters: int,
        dilations: Sequence[int] = (12, 24, 36),
        dropout: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.dilations = positive_integers(dilations=dilations)
        common = {"activation": "relu", "normalization": "batch", "dtype": self.dtype_policy}
        self.pointwise = ConvNormActivation(filters, 1, name="pointwise", **common)
        self.dilated = [
            ConvNormActivation(filters, 3, dilation=dilation, name=f"dilated_{number}", **common)
            for number, dilation in enumerate(self.dilations)
        ]
        self.context = _Context(filters, 1, name="context", **common)
        self.project = ConvNormActivation(filters, 1, name="project", **common)
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        super().build(input_shape)
        branches = (self.pointwise, *self.dilated, self.context)
        for branch in branches:
            branch.build(input_shape)
        self.project.build((*input_shape[:-1], len(branches) * self.filters))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Apply the branches, join and mix them."""
        branches = [
            branch(inputs, training=training)
            for branch in (self.pointwise, *self.dilated, self.context)
        ]
        x = self.project(ops.concatenate(branches, axis=-1), training=training)
        return self.dropout(x, training=training)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape with `filters` channels."""
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "dilations": self.dilations,
            "dropout": self.dropout.rate,
        }


class _Context(ConvNormActivation):
    """The same for all pixels: what the mean over the map tells."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights, for images of one pixel."""
        super().build((input_shape[0], *[1] * (len(input_shape) - 2), input_shape[-1]))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Convolve, normalize and activate the mean, and spread it."""
        mean = ops.cast(over_pixels(ops.mean, float32_at_least(inputs)), self.compute_dtype)
        mean = super().call(mean, training=training)
        return ops.broadcast_to(mean, (*ops.shape(inputs)[:-1], mean.shape[-1]))
