"""The residual block: convolutions whose result is added to their input."""

from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.base import SpatialLayer
from keras_lgmsnet.layers.conv_norm_activation import ConvNormActivation
from keras_lgmsnet.layers.initializers import fan_out_normal


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class ResidualBlock(SpatialLayer):
    """ResNet's basic block: two 3-wide convolutions, added to the input, 2D or 3D.

    Each convolution is normalized, and a ReLU follows the first and the sum. Where width or sides
    change, the input passes through a pointwise convolution and its norm first. Initial kernels are
    torchvision's: normal, of variance 2 / (taps × filters).

    Args:
        filters: Output channels.
        strides: The distance between neighbouring outputs, along every axis.
        normalization: `"batch"`, `"instance"`, or `None`: batch in 2D, instance in 3D.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If an argument is out of range.

    Example:
    >>> ResidualBlock(16, strides=2)(keras.ops.ones((1, 32, 32, 8))).shape
    (1, 16, 16, 16)
    """

    def __init__(
        self, filters: int, strides: int = 1, normalization: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides
        self.normalization = normalization
        self.first = self._convolution(3, strides, "relu", "first")
        self.second = self._convolution(3, 1, "linear", "second")
        self.shortcut: ConvNormActivation | None = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights, and the convolution of the input if there is to be one."""
        super().build(input_shape)
        self.first.build(input_shape)
        self.second.build(self.compute_output_shape(input_shape))
        if self.strides > 1 or self.channels != self.filters:
            self.shortcut = self._convolution(1, self.strides, "linear", "shortcut")
            self.shortcut.build(input_shape)

    def _convolution(
        self, kernel_size: int, strides: int, activation: str, name: str
    ) -> ConvNormActivation:
        return ConvNormActivation(
            self.filters,
            kernel_size,
            activation,
            normalization=self.normalization,
            kernel_initializer=fan_out_normal(),
            strides=strides,
            dtype=self.dtype_policy,
            name=name,
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Apply the block."""
        x = self.second(self.first(inputs, training=training), training=training)
        if self.shortcut is not None:
            inputs = self.shortcut(inputs, training=training)
        return ops.relu(x + inputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with strided sides and `filters` channels."""
        return self.first.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "strides": self.strides,
            "normalization": self.normalization,
        }
